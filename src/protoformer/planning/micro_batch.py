"""The micro-batch of a run on a GPU whose config leaves it open: the rows that memory holds at once, by `plan`'s own estimate.

Accumulation changes no number: k micro-batches of b rows are one batch of k b (see `modules.objective.gradient_normalizer`).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from protoformer.assembly.model import build_module
from protoformer.blocks.stacks import recompute_activations
from protoformer.data.batching.samplers import BatchConfig
from protoformer.models.cost import cost
from protoformer.planning.memory import device_memory, units_of

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
    """Memory of rows of `tokens` tokens on one of `ranks` devices, measured on the meta device with one row and with two."""
    with torch.device("meta"):
        module: Any = build_module({**config, "hardware": {**config["hardware"], "packing": "off"}}, arguments)
        module.train()
        if config["hardware"]["checkpoint_activations"]:
            recompute_activations(module)
        one, two = (
            cost(module, lambda rows=rows: module.loss(module.dummy_batch(rows, tokens)).total) for rows in (1, 2)
        )
    hardware = config["hardware"]
    units = units_of(module) if hardware["fully_shard"] and ranks > 1 else None
    totals = [
        device_memory(each.parameter_bytes, each.activations, hardware["precision"], devices=ranks, units=units).total
        for each in (one, two)
    ]
    per_row = totals[1] - totals[0]
    return RowMemory(totals[0] - per_row, per_row)


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
