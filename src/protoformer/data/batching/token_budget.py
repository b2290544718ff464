"""Batches of pairs by a token budget (arXiv 1706.03762, section 5.1): pairs of like length, up to about as many tokens a side.

Pairs are sorted by source length, then target length, and cut where the next pair would exceed the budget on either side. From
epoch to epoch pairs of equal lengths change places and batches are shuffled; the cuts stay, so every epoch has as many batches.
"""

from collections.abc import Iterator
from itertools import islice

import numpy as np
from jaxtyping import Int
from numpy import ndarray

from protoformer.data.batching.samplers import BatchConfig, MicroBatchSampler, micro_batches_of_rank


class TokenBudgetSampler(MicroBatchSampler):
    """Sampler of pairs; `batch_size` and `micro_batch` count tokens of one side.

    A pair that is longer than the budget is a batch of its own.
    """

    def __init__(self, sources: Int[ndarray, "pairs"], targets: Int[ndarray, "pairs"], config: BatchConfig) -> None:
        """`sources` and `targets` are lengths in tokens."""
        super().__init__(sources, config, shuffle=True)
        self.targets = np.asarray(targets)
        order = self._sort_by_length(np.arange(len(self.lengths)))
        self.cuts = self._cuts(self.lengths[order], self.targets[order])

    def __len__(self) -> int:
        return (len(self.cuts) - 1) * self.config.accumulation

    def order(self) -> Int[ndarray, "pairs"]:
        """All pairs in the order of this epoch, batch after batch."""
        return np.concatenate(self._batches())

    def _batches(self) -> list[Int[ndarray, "batch"]]:
        generator = np.random.default_rng([self.config.seed, self.epoch])
        order = self._sort_by_length(generator.permutation(len(self.lengths)))
        shuffled = generator.permutation(len(self.cuts) - 1)
        return [order[self.cuts[i] : self.cuts[i + 1]] for i in shuffled]

    def __iter__(self) -> Iterator[list[int]]:
        config = self.config
        step, skipped = divmod(self.position, config.accumulation)
        for batch in self._batches()[step:]:
            # interleaved, so that all micro-batches hold about as many tokens
            yield from islice(micro_batches_of_rank(batch, config, interleaved=True), skipped, None)
            skipped = 0

    def _sort_by_length(self, tie_breakers: Int[ndarray, "pairs"]) -> Int[ndarray, "pairs"]:
        """By source length, then target length, ascending and descending in turn: neighbours are alike on both sides."""
        alternating = np.where(self.lengths % 2, self.targets, -self.targets)
        return np.lexsort((tie_breakers, alternating, self.lengths))

    def _cuts(self, sources: Int[ndarray, "pairs"], targets: Int[ndarray, "pairs"]) -> list[int]:
        """Where batches begin in the sorted pairs; and the number of pairs."""
        cuts, source_tokens, target_tokens = [0], 0, 0
        for index, (source, target) in enumerate(zip(sources.tolist(), targets.tolist(), strict=True)):
            source_tokens, target_tokens = source_tokens + source, target_tokens + target
            if max(source_tokens, target_tokens) > self.config.batch_size and index > cuts[-1]:
                cuts.append(index)
                source_tokens, target_tokens = source, target
        return [*cuts, len(sources)]
