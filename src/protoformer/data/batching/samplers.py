"""Samplers of micro-batches: which rows make up which batch on which rank, in an explicit order whose state can be saved.

A *global* batch is cut into ranks x accumulation micro-batches. Every rank gets as many as every other: where the rows run out,
a dummy row (encoded as -1 - row) fills up and counts in no loss and no score. An epoch's order is a pure function of seed and
epoch, so a position is all there is to save, and it is the same on every rank.
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Int
from numpy import ndarray

from protoformer.errors import ConfigurationError

BATCHES_PER_GROUP = 50  # batches whose rows are sorted by length together


@dataclass(frozen=True)
class BatchConfig:
    """How rows become batches.

    `batch_size` is global; `micro_batch` bounds the rows that a rank holds at once. In order `tokens` both count tokens (see
    token_budget). `eval_rows` are the rows that all ranks together evaluate at once. `steps` are the global batches of the
    whole run, for kinds that are trained by steps.
    """

    batch_size: int
    micro_batch: int | None = None
    rank: int = 0
    ranks: int = 1
    seed: int = 0
    order: Literal["random", "length_grouped", "tokens"] = "random"
    workers: int = 0
    pin_memory: bool = False  # batches in page-locked memory, from which a GPU copies while it computes
    eval_rows: int = 64
    steps: int | None = None

    @property
    def accumulation(self) -> int:
        """Micro-batches of one rank in a global batch."""
        rows_per_rank = math.ceil(self.batch_size / self.ranks)
        return math.ceil(rows_per_rank / min(self.micro_batch or rows_per_rank, rows_per_rank))

    @property
    def held(self) -> int:
        """Rows (in order `tokens` tokens) of one micro-batch."""
        return math.ceil(math.ceil(self.batch_size / self.ranks) / self.accumulation)

    def for_evaluation(self) -> "BatchConfig":
        """Batches of `eval_rows` in the table's order, loaded without workers."""
        return BatchConfig(self.eval_rows, rank=self.rank, ranks=self.ranks, pin_memory=self.pin_memory)


class MicroBatchSampler:
    """Micro-batches of one rank, as lists of rows; -1 - row is a dummy row."""

    def __init__(self, lengths: Int[ndarray, "examples"], config: BatchConfig, *, shuffle: bool) -> None:
        if shuffle and config.order == "tokens" and type(self) is MicroBatchSampler:
            raise ConfigurationError("recipe.batching=tokens: only translation tasks can be batched by tokens")
        self.lengths, self.config, self.shuffle = lengths, config, shuffle
        self.epoch = 0
        self.position = 0  # micro-batches of this epoch to skip

    def __len__(self) -> int:
        return math.ceil(len(self.lengths) / self.config.batch_size) * self.config.accumulation

    def order(self) -> Int[ndarray, "examples"]:
        """All rows in the order of this epoch."""
        if not self.shuffle:
            return np.arange(len(self.lengths))
        generator = np.random.default_rng([self.config.seed, self.epoch])
        order = generator.permutation(len(self.lengths))
        if self.config.order == "random":
            return order
        size = self.config.batch_size
        # sort a random group of rows by length, cut it into batches, then shuffle the batches
        groups = np.split(order, range(BATCHES_PER_GROUP * size, len(order), BATCHES_PER_GROUP * size))
        by_length = np.concatenate([group[np.argsort(-self.lengths[group], kind="stable")] for group in groups])
        full_batches = len(order) // size
        shuffled = generator.permutation(full_batches)
        return np.concatenate(
            [*(by_length[i * size : (i + 1) * size] for i in shuffled), by_length[full_batches * size :]]
        )

    def __iter__(self) -> Iterator[list[int]]:
        order, config = self.order(), self.config
        step, skipped = divmod(self.position, config.accumulation)
        for start in range(step * config.batch_size, len(order), config.batch_size):
            batch = order[start : start + config.batch_size]
            yield from itertools.islice(micro_batches_of_rank(batch, config), skipped, None)
            skipped = 0


def micro_batches_of_rank(
    batch: Int[ndarray, "batch"], config: BatchConfig, *, interleaved: bool = False
) -> Iterator[list[int]]:
    """This rank's micro-batches of a global batch; one that gets no row has a dummy row.

    The batch is cut into ranks x accumulation parts, as `np.array_split` does, of which no other rank's is made. `interleaved`:
    a part is every so-many-th row.
    """
    parts = config.ranks * config.accumulation
    size, longer = divmod(len(batch), parts)  # the first `longer` parts have one row more
    for part in range(config.rank, parts, config.ranks):
        start = part * size + min(part, longer)
        rows = batch[part::parts] if interleaved else batch[start : start + size + (part < longer)]
        yield rows.tolist() if len(rows) else [-1 - int(batch[0])]


class Phase(NamedTuple):
    """A phase of a run: its number of global batches, and the number of rows of its table."""

    steps: int
    rows: int


class PhasedSampler:
    """Micro-batches of one rank for a whole run: phase after phase, pass after pass over each phase's rows, shuffled.

    One epoch is the whole run. Instead of rows it gives *sample indices*: pass x total rows + first row of the phase + row,
    where the rows of all phases are numbered one phase after another. So no index is given twice, and an index says phase, row
    and pass on any rank; -1 - index is a dummy row.
    """

    def __init__(self, phases: Sequence[Phase], config: BatchConfig) -> None:
        self.phases, self.config = [Phase(*phase) for phase in phases], config
        self.first_rows = [0, *itertools.accumulate(phase.rows for phase in self.phases)]
        self.epoch = 0
        self.position = 0  # micro-batches of this epoch to skip

    def __len__(self) -> int:
        return sum(phase.steps for phase in self.phases) * self.config.accumulation

    def passes(self, steps: int) -> float:
        """Passes over the rows that the first `steps` optimizer steps make, summed over phases."""
        passes = 0.0
        for phase in self.phases:
            passes += min(steps, phase.steps) * self.config.batch_size / phase.rows
            steps = max(0, steps - phase.steps)
        return passes

    def __iter__(self) -> Iterator[list[int]]:
        config = self.config
        step, skipped = divmod(self.position, config.accumulation)
        for index, phase in enumerate(self.phases):
            for batch in self._batches(index, min(step, phase.steps)):
                yield from itertools.islice(micro_batches_of_rank(batch, config), skipped, None)
                skipped = 0
            step = max(0, step - phase.steps)

    def _batches(self, index: int, first_step: int) -> Iterator[Int[ndarray, "batch"]]:
        """Sample indices of a phase's global batches, from `first_step` on."""
        phase, size = self.phases[index], self.config.batch_size
        if first_step == phase.steps:
            return
        passes_per_epoch = math.ceil(phase.steps * size / phase.rows)
        pass_index, start = divmod(first_step * size, phase.rows)
        pass_index += self.epoch * passes_per_epoch
        order = self._order(index, pass_index)
        for _ in range(first_step, phase.steps):
            parts = [order[start : start + size]]
            start += size
            # a batch that a pass cannot fill takes its rest from the next passes
            while (filled := sum(map(len, parts))) < size:
                pass_index += 1
                order = self._order(index, pass_index)
                start = size - filled
                parts.append(order[:start])
            yield np.concatenate(parts)

    def _order(self, index: int, pass_index: int) -> Int[ndarray, "rows"]:
        """Sample indices of one pass over a phase's table."""
        generator = np.random.default_rng([self.config.seed, index, pass_index])
        offset = pass_index * self.first_rows[-1] + self.first_rows[index]
        return generator.permutation(self.phases[index].rows) + offset


def decode_dummies(indices: Sequence[int]) -> tuple[list[int], list[bool]]:
    """Rows to read, and whether each is real (not a dummy row)."""
    return [i if i >= 0 else -1 - i for i in indices], [i >= 0 for i in indices]
