"""From the model's config to the task module."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from protoformer.assembly.initial_weights import Initial
from protoformer.assembly.instantiate import instantiate, instantiate_node
from protoformer.config.signatures import signature
from protoformer.data.datamodules.table import named_splits
from protoformer.data.sources.source import Role
from protoformer.errors import ConfigurationError
from protoformer.models import weights
from protoformer.modules.evaluation import Stage
from protoformer.modules.task_module import TaskModule
from protoformer.optim.optimization import Optimization
from protoformer.runs import reader
from protoformer.text.tokenizers import Tokenizer

log = logging.getLogger(__name__)


# keys of `model` that its builder does not take
OF_THE_FAMILY = ("tokenizer", "normalization", "template", "hf", "pretraining")


FREE = (
    "dropout",
    "attention_dropout",
    "packing",
    "init_std",
    "top",
)  # may differ from those of the run that it starts from


STAGES: dict[Stage, Role] = {"val": "validation", "test": "test"}  # our stages -> the roles that a task's splits play


def real_sizes(config: dict[str, Any], start: Initial, words: Tokenizer) -> dict[str, Any]:
    """Builder arguments as they will be built: a folder's sizes replace what the user did not set; a clash is an error."""
    keys = builder_arguments(config["model"])
    explicit = set(config["choices"].get("set", ()))
    if start.is_run and start.folder is not None:
        given = run_sizes(start.folder, keys)
    elif start.folder is not None:
        given = instantiate(config, "model.hf").sizes(weights.read_config(start.folder))
    else:
        given = {} if "model.vocab_size" in explicit else {"vocab_size": words.vocab_size}
    for name, value in given.items():
        if f"model.{name}" in explicit and keys.get(name) != value:
            raise ConfigurationError(
                f"model.{name}={keys.get(name)} was asked for, but {start.origin} has {name}={value}; leave one of them out"
            )
    sizes = {**keys, **given}
    if words.vocab_size > sizes["vocab_size"]:
        raise ConfigurationError(
            f"the tokenizer ({words.origin}) has {words.vocab_size} words, the model's vocab_size is {sizes['vocab_size']}"
        )
    return sizes


def with_room(config: Mapping[str, Any], sizes: dict[str, Any], words: Tokenizer) -> dict[str, Any]:
    """Sizes with an embedding for each special token that the model's template puts into this task's texts."""
    from hydra.utils import get_class

    method = get_class(config["task"]["data"]["_target_"]).template_method  # type: ignore[attr-defined]
    template = instantiate(config, "model.template", tokenizer=words)
    needed = template.largest_id(method) + 1
    if needed > sizes["vocab_size"]:
        log.info("%d new embeddings for the template's special tokens", needed - sizes["vocab_size"])
    return {**sizes, "vocab_size": max(sizes["vocab_size"], needed)}


def run_sizes(folder: Path, keys: Mapping[str, Any]) -> dict[str, Any]:
    """What an earlier run's model was built with, and a model that takes its weights must be built with as well; `keys` are
    the arguments that this model's config states."""
    earlier = read_model(folder)
    return {
        name: earlier.get(name, parameter.default)
        for name, parameter in signature(earlier["_target_"]).parameters.items()
        if name not in FREE and (name in earlier or name in keys)
    }


def read_model(folder: Path) -> dict[str, Any]:
    """The model's part of a run's config."""
    return reader.read_config(folder)["model"]


def adopted(config: dict[str, Any], start: Initial) -> dict[str, Any]:
    """The config with the template of the run that it starts from: what a model reads for the whole it has learnt there."""
    explicit = config["choices"].get("set", ())
    if not start.is_run or start.folder is None or any(key.startswith("model.template") for key in explicit):
        return config
    return {**config, "model": {**config["model"], "template": read_model(start.folder)["template"]}}


def builder_arguments(model: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of `model` that its builder takes, `_target_` included."""
    return {k: v for k, v in model.items() if k not in OF_THE_FAMILY}


def task_module(config: Mapping[str, Any], sizes: Mapping[str, Any]) -> TaskModule:
    """The model under its task's loss and metrics, with fresh weights; `sizes` are the builder's arguments."""
    splits = config["task"]["splits"]
    return instantiate(
        config,
        "task.module",
        backbone=instantiate_node(sizes, "model", packing=config["hardware"]["packing"]),
        splits={stage: list(named_splits(splits.get(role))) for stage, role in STAGES.items()},
        optimization=Optimization.from_recipe(config["recipe"]),
    )
