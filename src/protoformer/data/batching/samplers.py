"""Which rows make up which batch, on which rank: an explicit order with a state that can be saved.

A *global* batch is cut into ranks x accumulation micro-batches. Every rank gets as many of them as every other: where the
rows run out, a filler row (written -1 - row) stands in and counts nowhere. The order of an epoch is a pure function of
seed and epoch, so a position is all there is to save, and it is the same on every rank.
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

GROUP = 50  # batches that are sorted by length together


@dataclass(frozen=True)
class Batching:
    """How rows become batches. `batch_size` is global; `micro_batch` bounds the rows a rank holds at once. In order `tokens`
    both count tokens (see token_budget)."""

    batch_size: int
    micro_batch: int | None = None
    rank: int = 0
    ranks: int = 1
    seed: int = 0
    order: Literal["random", "length_grouped", "tokens"] = "random"
    workers: int = 0
    evaluation_rows: int = 64  # rows that all ranks together evaluate at once
    steps: int | None = None  # global batches of the whole run, for what is trained by steps

    @property
    def accumulation(self) -> int:
        """Micro-batches of one rank that make up its share of a global batch."""
        share = math.ceil(self.batch_size / self.ranks)
        return math.ceil(share / min(self.micro_batch or share, share))


class BatchSampler:
    """Micro-batches of one rank, as lists of rows; -1 - row is a filler."""

    def __init__(self, lengths: Int[ndarray, "examples"], batching: Batching, *, shuffle: bool) -> None:
        if shuffle and batching.order == "tokens" and type(self) is BatchSampler:
            raise ConfigurationError("recipe.batching=tokens: only translation tasks can be batched by tokens")
        self.lengths, self.batching, self.shuffle = lengths, batching, shuffle
        self.epoch = 0
        self.position = 0  # micro-batches of this epoch to leave out

    def __len__(self) -> int:
        return math.ceil(len(self.lengths) / self.batching.batch_size) * self.batching.accumulation

    def order(self) -> Int[ndarray, "examples"]:
        """All rows in the order of this epoch."""
        if not self.shuffle:
            return np.arange(len(self.lengths))
        generator = np.random.default_rng([self.batching.seed, self.epoch])
        order = generator.permutation(len(self.lengths))
        if self.batching.order == "random":
            return order
        size = self.batching.batch_size
        groups = [order[at : at + GROUP * size] for at in range(0, len(order), GROUP * size)]
        by_length = np.concatenate([group[np.argsort(-self.lengths[group], kind="stable")] for group in groups])
        whole = len(order) // size
        batches = generator.permutation(whole)
        return np.concatenate([*(by_length[b * size : (b + 1) * size] for b in batches), by_length[whole * size :]])

    def __iter__(self) -> Iterator[list[int]]:
        order, batching = self.order(), self.batching
        parts = batching.ranks * batching.accumulation
        number = 0
        for start in range(0, len(order), batching.batch_size):
            shares = np.array_split(order[start : start + batching.batch_size], parts)
            for share in shares[batching.rank :: batching.ranks]:
                number += 1
                if number > self.position:
                    yield share.tolist() if len(share) else [-1 - int(order[start])]


class Phase(NamedTuple):
    """A part of a run: how many global batches it has, and how many rows the table that they are of."""

    steps: int
    rows: int


class PhasedSampler:
    """Micro-batches of one rank for a whole run: phase after phase, each going through its rows in drawn orders, pass after
    pass. One epoch is the run.

    What it gives are *draws*: a row's number over the tables of all phases, plus their total number of rows for each pass
    before. So a draw is given once only, and it says phase, row and pass on any rank; -1 - draw is a filler.
    """

    def __init__(self, phases: Sequence[Phase], batching: Batching) -> None:
        self.phases, self.batching = [Phase(*phase) for phase in phases], batching
        self.firsts = [0, *itertools.accumulate(phase.rows for phase in self.phases)]
        self.epoch = 0
        self.position = 0  # micro-batches of this epoch to leave out

    def __len__(self) -> int:
        return sum(phase.steps for phase in self.phases) * self.batching.accumulation

    def __iter__(self) -> Iterator[list[int]]:
        batching = self.batching
        begin, left_out = divmod(self.position, batching.accumulation)
        for number, phase in enumerate(self.phases):
            for batch in self._batches(number, min(begin, phase.steps)):
                shares = np.array_split(batch, batching.ranks * batching.accumulation)
                for share in shares[batching.rank :: batching.ranks][left_out:]:
                    yield share.tolist() if len(share) else [-1 - int(batch[0])]
                left_out = 0
            begin = max(0, begin - phase.steps)

    def _batches(self, number: int, begin: int) -> Iterator[Int[ndarray, "batch"]]:
        """The draws of a phase's global batches, from batch `begin` on."""
        phase, size = self.phases[number], self.batching.batch_size
        if begin == phase.steps:
            return
        passes = math.ceil(phase.steps * size / phase.rows)  # of an epoch; a further epoch goes on counting
        turn, at = divmod(begin * size, phase.rows)
        order = self._order(number, self.epoch * passes + turn)
        for _ in range(begin, phase.steps):
            parts = [order[at : at + size]]
            at += size
            while (held := sum(map(len, parts))) < size:
                turn += 1
                order = self._order(number, self.epoch * passes + turn)
                at = size - held
                parts.append(order[:at])
            yield np.concatenate(parts)

    def _order(self, number: int, turn: int) -> Int[ndarray, "rows"]:
        """All draws of one pass over a phase's table."""
        generator = np.random.default_rng([self.batching.seed, number, turn])
        return generator.permutation(self.phases[number].rows) + (turn * self.firsts[-1] + self.firsts[number])


def fillers(indices: Sequence[int]) -> tuple[list[int], list[bool]]:
    """Rows to read, and which of them are real."""
    return [i if i >= 0 else -1 - i for i in indices], [i >= 0 for i in indices]
