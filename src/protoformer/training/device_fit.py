"""What a run on a GPU is given where its config leaves it open (micro-batch, workers), and the advice where memory runs out."""

import logging
import math
import os
from dataclasses import replace
from typing import Any

import torch

from protoformer.assembly.build import EVALUATION_ROWS, Parts
from protoformer.data.batching.samplers import BatchConfig
from protoformer.distributed.collectives import minimum_of_ranks
from protoformer.distributed.devices import default_workers, rank_device_index
from protoformer.distributed.memory import batch_advice
from protoformer.modules.task_module import TaskModule
from protoformer.planning.micro_batch import USABLE, fitting_micro_batch, row_memory

log = logging.getLogger(__name__)
GIB = 2**30


def fit_to_device(parts: Parts, accelerator: str, device_bytes: int | None = None) -> None:
    """Set `micro_batch`, `workers` and `pin_memory` of the data's batches where the config leaves them open, for a GPU.

    `device_bytes` is the card's memory, by default as the driver gives it: the same on each start, so that a continued run
    has the same micro-batches.
    """
    if accelerator != "gpu":
        return
    batch, config = parts.data.batch_config, parts.config
    if config["hardware"]["workers"] is None:
        local_ranks = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        batch = replace(batch, workers=default_workers(accelerator, len(os.sched_getaffinity(0)), local_ranks))
    if batch.micro_batch is None and config["task"]["splits"].get("train"):
        if device_bytes is None:
            card = torch.cuda.get_device_properties(rank_device_index())
            device_bytes = minimum_of_ranks(card.total_memory)  # all ranks take as many micro-batches
        batch = replace(batch, micro_batch=_micro_batch(parts, batch, device_bytes))
    parts.data.batch_config = replace(batch, pin_memory=True)


def _micro_batch(parts: Parts, batch: BatchConfig, device_bytes: int) -> int | None:
    tokens = parts.data.max_len
    memory = row_memory(parts.model.in_config(parts.config), parts.model.arguments, tokens, batch.ranks)
    micro_batch = fitting_micro_batch(batch, memory, tokens, device_bytes)
    if micro_batch is not None:
        unit = "tokens" if batch.order == "tokens" else "rows"
        accumulation = replace(batch, micro_batch=micro_batch).accumulation
        log.info(
            "hardware.micro_batch=%d: a batch of %d %s in %d micro-batches a GPU, since %.1f GiB (%.0f %% of the card) hold "
            "no more by estimate; no result depends on it",
            micro_batch, batch.batch_size, unit, accumulation, USABLE * device_bytes / GIB, 100 * USABLE,
        )  # fmt: skip
    return micro_batch


def loss_divisor(module: TaskModule[Any, Any], batch: BatchConfig, max_len: int, precision: str) -> int:
    """The power of two nearest to the targets of a micro-batch where gradients are of fp16, else 1 (see `TaskModule.connect`).

    The gradient scaler begins at 65,536 and halves with each skipped step; a sum over n targets costs it log2(n) steps.
    """
    if precision != "fp16":
        return 1
    rows = max(1, batch.held // max_len) if batch.order == "tokens" else batch.held
    return 2 ** round(math.log2(max(1, module.expected_targets(rows, max_len))))


def out_of_memory_advice(batch: BatchConfig, is_training: bool, precision: str) -> str:
    """For a run whose batch does not fit: what was held at once, and what to set."""
    others = "a smaller task.max_len or a smaller model takes less"
    if precision in ("fp32", "tf32"):
        others = f"hardware.precision=bf16, {others}"
    if not is_training:
        return f"{EVALUATION_ROWS} rows of an evaluation at once; {others}"
    unit = "tokens" if batch.order == "tokens" else "rows"
    return batch_advice(batch.held, unit, "hardware.micro_batch=", otherwise=others)
