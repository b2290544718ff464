"""Batches of pairs by a budget of tokens (arXiv 1706.03762, section 5.1): pairs of like length together, so many that both
sides hold about as many tokens as the budget says.

Pairs are ordered by the length of their sources, then of their targets, and cut where the next one would be too much on
either side. Pairs of the very same lengths change places from epoch to epoch, the cuts do not; so every epoch has as many
batches, in an order drawn anew.
"""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Int
from numpy import ndarray

from protoformer.data.batching.samplers import Batching, BatchSampler


class TokenBudgetSampler(BatchSampler):
    """`batch_size` and `micro_batch` of the batching count tokens of one side. A pair that is longer than the budget is a batch
    of its own."""

    def __init__(self, sources: Int[ndarray, "pairs"], targets: Int[ndarray, "pairs"], batching: Batching) -> None:
        super().__init__(sources, batching, shuffle=True)
        self.targets = np.asarray(targets)
        order = self._by_length(np.arange(len(self.lengths)))
        self.cuts = self._cuts(self.lengths[order], self.targets[order])

    def __len__(self) -> int:
        return (len(self.cuts) - 1) * self.batching.accumulation

    def order(self) -> Int[ndarray, "pairs"]:
        """All pairs in the order of this epoch, batch after batch."""
        return np.concatenate(self._batches())

    def _batches(self) -> list[Int[ndarray, "batch"]]:
        generator = np.random.default_rng([self.batching.seed, self.epoch])
        order = self._by_length(generator.permutation(len(self.lengths)))
        return [order[self.cuts[place] : self.cuts[place + 1]] for place in generator.permutation(len(self.cuts) - 1)]

    def __iter__(self) -> Iterator[list[int]]:
        batching = self.batching
        begin, left_out = divmod(self.position, batching.accumulation)
        for batch in self._batches()[begin:]:
            parts = batching.ranks * batching.accumulation
            shares = [batch[part::parts] for part in range(parts)]
            for share in shares[batching.rank :: batching.ranks][left_out:]:
                yield share.tolist() if len(share) else [-1 - int(batch[0])]
            left_out = 0

    def _by_length(self, ties: Int[ndarray, "pairs"]) -> Int[ndarray, "pairs"]:
        """By source, then by target; up and down in turn, so that neighbours are alike on both sides."""
        turned = np.where(self.lengths % 2, self.targets, -self.targets)
        return np.lexsort((ties, turned, self.lengths))

    def _cuts(self, sources: Int[ndarray, "pairs"], targets: Int[ndarray, "pairs"]) -> list[int]:
        cuts, source, target = [0], 0, 0
        for place, (one, other) in enumerate(zip(sources.tolist(), targets.tolist(), strict=True)):
            source, target = source + one, target + other
            if max(source, target) > self.batching.batch_size and place > cuts[-1]:
                cuts.append(place)
                source, target = one, other
        return [*cuts, len(sources)]
