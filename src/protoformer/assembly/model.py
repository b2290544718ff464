"""The model of a run: its config resolved against initial weights and tokenizer, and built under the task's module."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hydra.utils import get_class

from protoformer.assembly.freeze import freeze
from protoformer.assembly.initial_weights import InitialWeights
from protoformer.assembly.instantiate import instantiate, instantiate_node
from protoformer.assembly.metrics import with_complete_metrics
from protoformer.assembly.start_and_end import template_tokens
from protoformer.config.annotations.signatures import signature
from protoformer.data.datamodules.context import named_splits
from protoformer.data.sources.source import Role
from protoformer.errors import ConfigurationError, WeightsError
from protoformer.models.hf.sizes import read_sizes
from protoformer.models.weights import read_config
from protoformer.modules.evaluation import Stage
from protoformer.modules.task_module import TaskModule
from protoformer.optim.optimization import Optimization
from protoformer.text.encoder_decoder.translation_template import TranslationTemplate
from protoformer.text.tokenizers import Tokenizer

log = logging.getLogger(__name__)

# keys of `model` that its builder does not take
NOT_OF_THE_BUILDER = ("tokenizer", "normalization", "template", "hf", "pretraining", "depth")
# builder arguments that may differ from those of the run in init_from; all others are taken from it
MAY_DIFFER_FROM_INIT = ("dropout", "attention_dropout", "packing", "init_std", "top")
# Lightning's stages, and the role of a task's splits that each evaluates
STAGES: dict[Stage, Role] = {"val": "validation", "test": "test"}


@dataclass(frozen=True)
class ResolvedModel:
    """A run's model as it is built: the config's, with the sizes and the input template of its initial weights."""

    arguments: dict[str, object]  # of the builder, `_target_` included; packing is hardware's
    template: dict[str, Any]  # the node model.template

    def in_config(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """The run's config with this model in it: what config.yaml holds, and what a loaded run is built from again."""
        return with_sizes({**config, "model": {**config["model"], "template": self.template}}, self.arguments)


def with_sizes(config: Mapping[str, Any], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The config with a builder's arguments in it, and a longest text that follows the model's positions."""
    config = {**config, "model": {**config["model"], **arguments}}
    if "task.max_len" in config["choices"].get("follows", ()) and arguments.get("max_seq_len"):
        config["task"] = {**config["task"], "max_len": arguments["max_seq_len"]}
    return config


def resolve_model(config: Mapping[str, Any], initial: InitialWeights, tokenizer: Tokenizer) -> ResolvedModel:
    """The builder's arguments and the template, from the config, the initial weights and the tokenizer.

    Sizes of the initial weights replace those that the user did not set. Special tokens that the template puts into this
    task's texts, and that the weights lack, get embedding rows.

    Raises ConfigurationError for a size that the user set and the weights contradict, and for too large a tokenizer.
    """
    set_keys = set(config["choices"].get("set", ()))
    arguments, template = builder_arguments(config["model"]), config["model"]["template"]
    sizes = initial_sizes(config, initial)
    if not initial.folder and "model.vocab_size" not in set_keys:
        sizes = {"vocab_size": tokenizer.vocab_size}
    if "model.depth" in set_keys and sizes.get("n_layers", config["model"]["depth"]) != config["model"]["depth"]:
        raise ConfigurationError(
            f"model.depth={config['model']['depth']} is set, but {initial.source_name} has n_layers={sizes['n_layers']}; "
            "leave one of them out"
        )
    for name, value in sizes.items():
        if f"model.{name}" in set_keys and arguments.get(name) != value:
            raise ConfigurationError(
                f"model.{name}={arguments.get(name)} is set, but {initial.source_name} has {name}={value}; "
                "leave one of them out"
            )
    arguments |= sizes
    if tokenizer.vocab_size > arguments["vocab_size"]:
        raise ConfigurationError(
            f"the tokenizer ({tokenizer.origin}) has {tokenizer.vocab_size} tokens, the model's vocab_size is "
            f"{arguments['vocab_size']}"
        )
    if not any(key.startswith("model.template") for key in set_keys):
        template = _template(config, initial, tokenizer)
    model = ResolvedModel(arguments, template)
    return ResolvedModel(with_special_token_rows(model.in_config(config), arguments, tokenizer), template)


def _template(config: Mapping[str, Any], initial: InitialWeights, tokenizer: Tokenizer) -> dict[str, Any]:
    """The node model.template, with what the initial weights were trained with."""
    template: dict[str, Any] = config["model"]["template"]
    if initial.run is not None:
        return initial.run.read_config()["model"]["template"]  # what pooled tokens mean was learnt with it
    if initial.folder is None or not issubclass(get_class(template["_target_"]), TranslationTemplate):
        return template
    return {**template, **template_tokens(read_config(initial.folder), tokenizer, template)}


def initial_sizes(config: Mapping[str, Any], initial: InitialWeights) -> dict[str, Any]:
    """Builder arguments that the initial weights fix; none where they are drawn."""
    if initial.run is not None:
        _check_family(config, initial.run.read_config(), initial.source_name)
        earlier, arguments = initial.run.read_config()["model"], builder_arguments(config["model"])
        return {
            name: earlier.get(name, parameter.default)
            for name, parameter in signature(earlier["_target_"]).parameters.items()
            if name not in MAY_DIFFER_FROM_INIT and (name in earlier or name in arguments)
        }
    return read_sizes(initial.folder, instantiate(config, "model.hf")) if initial.folder else {}


def _check_family(config: Mapping[str, Any], earlier: Mapping[str, Any], source_name: str) -> None:
    """Raise WeightsError where the run in `init_from` has another builder, with other arguments or another template."""
    ours, theirs = config["model"], earlier["model"]
    if ours["_target_"] == theirs["_target_"]:
        return
    taken, given = (signature(model["_target_"]).parameters.keys() for model in (ours, theirs))
    if given - taken or ours["template"]["_target_"] != theirs["template"]["_target_"]:
        name = earlier["choices"]["model"]
        raise WeightsError(
            f"init_from={source_name} is a run of model={name}, whose weights do not fit model={config['choices']['model']}; "
            f"give model={name}"
        )


def with_special_token_rows(
    config: Mapping[str, Any], arguments: Mapping[str, Any], tokenizer: Tokenizer
) -> dict[str, Any]:
    """Builder arguments whose vocab_size has room for each special token that the template puts into this task's texts."""
    method = get_class(config["task"]["data"]["_target_"]).template_method  # type: ignore[attr-defined]  # of every datamodule
    needed = instantiate(config, "model.template", tokenizer=tokenizer).largest_id(method) + 1
    if needed > arguments["vocab_size"]:
        log.info("%d new embeddings for the template's special tokens", needed - arguments["vocab_size"])
    return {**arguments, "vocab_size": max(arguments["vocab_size"], needed)}


def builder_arguments(model: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of the node `model` that its builder takes, `_target_` included."""
    return {name: value for name, value in model.items() if name not in NOT_OF_THE_BUILDER}


def build_module(config: Mapping[str, Any], arguments: Mapping[str, Any]) -> TaskModule:
    """The model, with random weights, under its task's loss and metrics; `arguments` are the builder's.

    What the recipe freezes needs no gradient.
    """
    splits = config["task"]["splits"]
    module: TaskModule = instantiate_node(
        with_complete_metrics(config["task"]["module"]),
        "task.module",
        backbone=instantiate_node(arguments, "model", packing=config["hardware"]["packing"]),
        splits={stage: list(named_splits(splits.get(role))) for stage, role in STAGES.items()},
        optimization=Optimization.from_recipe(config["recipe"]),
    )
    freeze(module, config["recipe"].get("freeze"))
    return module
