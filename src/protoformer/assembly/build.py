"""From a checked config to the parts of a run: initial weights, tokenizer, model, data, task module."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from protoformer.assembly.initial_weights import InitialWeights, find_initial_weights, load_initial_weights
from protoformer.assembly.instantiate import instantiate
from protoformer.assembly.model import STAGES, ResolvedModel, build_module, resolve_model
from protoformer.assembly.own_data import with_own_data
from protoformer.assembly.tokenizer import build_tokenizer
from protoformer.data.batching.samplers import BatchConfig
from protoformer.data.datamodules.context import DataContext
from protoformer.data.datamodules.table import TableDataModule
from protoformer.errors import ConfigurationError
from protoformer.models.backbone import check_ids
from protoformer.modules.task_module import TaskModule
from protoformer.text.tokenizers import Tokenizer

log = logging.getLogger(__name__)
EVALUATION_ROWS = 64  # rows that a rank evaluates at once
CHECKED_TOKENS = 2**20  # at the beginning of each split


@dataclass
class Parts:
    """What a run is made of."""

    module: TaskModule
    data: TableDataModule[Any]
    tokenizer: Tokenizer
    model: ResolvedModel
    initial_weights: InitialWeights
    source: Any
    config: dict[str, Any]  # with the splits and labels of the data


def build(config: dict[str, Any], *, rank: int = 0, ranks: int = 1, initialise: bool = True) -> Parts:
    """Everything but the trainer. `initialise=False` leaves the weights random (a checkpoint will replace them)."""
    source = instantiate(config, "source")
    initial_weights = find_initial_weights(config)
    config = with_data = with_own_data(config, source, initial_weights)
    tokenizer = build_tokenizer(config, initial_weights, source)
    model = resolve_model(config, initial_weights, tokenizer)
    config = model.in_config(config)
    _advise_length(config, initial_weights)
    data = build_datamodule(config, source, tokenizer, rank=rank, ranks=ranks)
    module = build_module(config, model.arguments)
    if data.left_to_right and not getattr(module.backbone, "causal", True):
        raise ConfigurationError(
            f"task={config['choices'].get('task')} predicts each token from those before it, and this model also sees the ones "
            "after it, the answers: choose a causal model (of BERT model.attention=causal)"
        )
    if initialise:
        load_initial_weights(module, config, initial_weights)
    return Parts(module, data, tokenizer, model, initial_weights, source, with_data)


def _advise_length(config: Mapping[str, Any], initial: InitialWeights) -> None:
    """A warning where a run is tested on longer texts than it was trained on by a typed task.max_len."""
    earlier = None if initial.run is None else initial.run.read_config()
    if earlier is None or config["task"]["splits"].get("train") or "task.max_len" in config["choices"].get("set", ()):
        return
    trained_on = earlier["task"]["max_len"]
    if "task.max_len" in earlier["choices"].get("set", ()) and trained_on < config["task"]["max_len"]:
        log.warning(
            "%s was trained on texts of at most %d tokens, and is tested on up to %d: add task.max_len=%d for no longer ones",
            initial.source_name, trained_on, config["task"]["max_len"], trained_on,
        )  # fmt: skip


def build_datamodule(
    config: Mapping[str, Any], source: Any, tokenizer: Tokenizer, *, rank: int = 0, ranks: int = 1
) -> TableDataModule[Any]:
    """The task's rows as batches for one rank, under a config whose model is resolved (`ResolvedModel.in_config`).

    No sequence is longer than the model has positions.
    """
    task, recipe, hardware = config["task"], config["recipe"], config["hardware"]
    max_len = min(task["max_len"], config["model"].get("max_seq_len") or task["max_len"])
    if max_len < task["max_len"]:
        log.info("task.max_len=%d, but the model has %d positions: truncating inputs", task["max_len"], max_len)
    limited = any(config["trainer"][name] is not None for name in ("limit_val_batches", "limit_test_batches"))
    batch_config = BatchConfig(
        batch_size=recipe["batch_size"],
        micro_batch=hardware["micro_batch"],
        rank=rank,
        ranks=ranks,
        seed=config["seed"],
        order=recipe["batching"],
        workers=hardware["workers"] or 0,
        steps=recipe["max_steps"] if recipe["max_steps"] > 0 else None,
        # a limit counts these batches, so under one they must be the same rows on any number of ranks
        eval_rows=EVALUATION_ROWS if limited else EVALUATION_ROWS * ranks,
    )
    return instantiate(
        config,
        "task.data",
        context=DataContext(
            reader=instantiate(config, "task.rows"),
            splits=task["splits"],
            source=source,
            tokenizer=tokenizer,
            template=instantiate(config, "model.template", tokenizer=tokenizer),
            max_len=max_len,
            batch_config=batch_config,
            cache=Path(config["paths"]["cache"]),
        ),
    )


def check_tables(parts: Parts) -> None:
    """Raise ConfigurationError for encoded data with ids that the model has no embedding for, before anything is trained.

    The beginning of each split stands for all of it: what a template puts into texts is the same for each.
    """
    for tables in parts.data.tables.values():
        for name, table in tables.items():
            ids, segment_ids = (getattr(table, array, None) for array in ("ids", "segment_ids"))
            if ids is not None:
                origin = getattr(table, "stats", {}).get("origin", name)
                segments = None if segment_ids is None else segment_ids[:CHECKED_TOKENS]
                check_ids(parts.module.backbone, origin, ids[:CHECKED_TOKENS], segments)


def test_texts(config: Mapping[str, Any]) -> dict[str, dict[int, str]]:
    """The texts of every evaluated example by split (`val`, `test/matched`, as in metrics) and id, of running text
    every line; needs no model."""
    task = config["task"]
    context = DataContext(
        reader=instantiate(config, "task.rows"),
        splits=task["splits"],
        source=instantiate(config, "source"),
        tokenizer=None,  # type: ignore[arg-type]  # nothing is encoded
        template=None,
        max_len=task["max_len"],
        batch_config=BatchConfig(1),
        cache=Path(config["paths"]["cache"]),
    )
    data: TableDataModule[Any] = instantiate(config, "task.data", context=context)
    texts: dict[str, dict[int, str]] = {}
    for stage, role in STAGES.items():
        for split in data.splits[role]:
            columns = data.overlap_columns(role, split)
            rows = zip(*columns.values(), strict=True)
            joined = {number: " ".join(map(_as_text, row)) for number, row in enumerate(rows)}
            if joined:
                texts[f"{stage}/{split}".rstrip("/")] = joined
    return texts


def _as_text(value: Any) -> str:
    return " ".join(map(_as_text, value)) if isinstance(value, list | tuple) else str(value)
