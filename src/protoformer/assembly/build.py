"""From the plain config to live parts: initial weights, tokenizer, model, data, task module."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from protoformer.assembly.initial_weights import Initial, initial, put_initial
from protoformer.assembly.instantiate import instantiate
from protoformer.assembly.model import adopted, real_sizes, task_module, with_room
from protoformer.assembly.tokenizer import tokenizer
from protoformer.data.batching.samplers import Batching
from protoformer.data.datamodules.table import TableDataModule
from protoformer.modules.task_module import TaskModule
from protoformer.text.tokenizers import Tokenizer

log = logging.getLogger(__name__)
EVALUATION_ROWS = 64  # rows that a rank evaluates at once


@dataclass
class Parts:
    """What a run is made of."""

    module: TaskModule
    data: TableDataModule[Any]
    tokenizer: Tokenizer
    sizes: dict[str, Any]
    start: Initial
    source: Any
    template: dict[str, Any]


def build(config: dict[str, Any], *, rank: int = 0, ranks: int = 1, initialise: bool = True) -> Parts:
    """Everything but the trainer. `initialise=False` leaves the weights random (a checkpoint will replace them)."""
    source = instantiate(config, "source")
    start = initial(config)
    config = adopted(config, start)
    words = tokenizer(config, start, source)
    sizes = with_room(config, real_sizes(config, start, words), words)
    data = datamodule(config, source, words, sizes, rank=rank, ranks=ranks)
    module = task_module(config, sizes)
    if initialise and start.folder is not None:
        put_initial(module, config, start)
    return Parts(module, data, words, sizes, start, source, config["model"]["template"])


def datamodule(
    config: Mapping[str, Any],
    source: Any,
    words: Tokenizer,
    sizes: Mapping[str, Any],
    *,
    rank: int = 0,
    ranks: int = 1,
) -> TableDataModule[Any]:
    """The task's rows as batches for one rank; no sequence is longer than the model has positions."""
    task, recipe, hardware = config["task"], config["recipe"], config["hardware"]
    longest = min(task["max_len"], sizes.get("max_seq_len") or task["max_len"])
    if longest < task["max_len"]:
        log.info("task.max_len=%d, but the model has %d positions: truncating there", task["max_len"], longest)
    limited = any(config["trainer"][name] is not None for name in ("limit_val_batches", "limit_test_batches"))
    batching = Batching(
        batch_size=recipe["batch_size"],
        micro_batch=hardware["micro_batch"],
        rank=rank,
        ranks=ranks,
        seed=config["seed"],
        order=recipe["batching"],
        workers=hardware["workers"],
        steps=recipe["max_steps"] if recipe["max_steps"] > 0 else None,
        # a limit counts these batches, so under one they must be the same rows on any number of ranks
        evaluation_rows=EVALUATION_ROWS if limited else EVALUATION_ROWS * ranks,
    )
    return instantiate(
        config,
        "task.data",
        rows=instantiate(config, "task.rows"),
        splits=task["splits"],
        source=source,
        tokenizer=words,
        template=instantiate(config, "model.template", tokenizer=words),
        max_len=longest,
        batching=batching,
        cache=Path(config["paths"]["cache"]),
    )
