"""The micro-batch of a run on a GPU whose config leaves it open: the rows that memory holds at once, by `plan`'s own estimate.

Accumulation changes no number: k micro-batches of b rows are one batch of k b (see `modules.objective.gradient_normalizer`).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from protoformer.assembly.model import build_module
from protoformer.data.batching.samplers import BatchConfig
from protoformer.planning.memory import device_memory, units_of
from protoformer.planning.step_memory import StepMemory

USABLE = 0.85  # of a card's memory; the rest is for its context, workspaces of libraries, and fragmentation


@dataclass(frozen=True)
class RowMemory:
    """Bytes on a device in training: what is there in any case, and what each row of a micro-batch adds."""

    fixed: int
    per_row: int

    def rows_within(self, nbytes: float) -> int:
        """Rows that fit, at least one."""
        return max(1, int((nbytes - self.fixed) // max(1, self.per_row)))


def row_memory(config: Mapping[str, Any], arguments: dict[str, Any], tokens: int, ranks: int = 1) -> RowMemory:
    """Memory of rows of `tokens` tokens on one of `ranks` devices, found on the meta device with few rows and twice as many."""
    hardware = config["hardware"]
    with torch.device("meta"):
        module = build_module(dict(config), arguments)
    parameter_bytes = sum(each.numel() * each.element_size() for each in module.parameters())
    units = units_of(module) if hardware["fully_shard"] and ranks > 1 else None
    memory = StepMemory(module, hardware, tokens, accumulates=True)
    one, two = (
        device_memory(parameter_bytes, memory.of(rows), hardware["precision"], devices=ranks, units=units).total
        for rows in (memory.rows, 2 * memory.rows)
    )
    per_row = (two - one) // memory.rows
    return RowMemory(one - memory.rows * per_row, per_row)


def fitting_micro_batch(batch: BatchConfig, memory: RowMemory, tokens: int, device_bytes: int) -> int | None:
    """The largest `micro_batch` (rows, or tokens in order `tokens`) that a device of `device_bytes` holds; None: a rank's
    whole part of the batch.

    A rank's part is cut into as few micro-batches as possible, of equal size.
    """
    part = math.ceil(batch.batch_size / batch.ranks)
    rows = memory.rows_within(USABLE * device_bytes)
    capacity = rows * tokens if batch.order == "tokens" else rows
    if capacity >= part:
        return None
    return math.ceil(part / math.ceil(part / capacity))
