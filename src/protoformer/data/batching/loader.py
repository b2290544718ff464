"""A DataLoader that knows where it stands, so that a run continues with the very next batch."""

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from protoformer.data.batching.samplers import BatchSampler, PhasedSampler


class _Rows(Dataset[int]):
    """Row numbers; `collate` reads the rows themselves, a batch at a time."""

    def __init__(self, collate: Callable[[list[int]], Any]) -> None:
        self.collate = collate

    def __getitems__(self, indices: list[int]) -> list[int]:
        return indices


class BatchLoader(DataLoader[Any]):
    """Batches of one epoch after another. Its state counts batches given out, not batches fetched ahead, and is right
    wherever a global batch is complete.

    The first `iter` goes on where the loaded state stands (or begins epoch 0); each one after it begins the next epoch,
    also when a trainer's limit left the last one before its end.
    """

    def __init__(
        self, sampler: BatchSampler | PhasedSampler, collate: Callable[[list[int]], Any], workers: int = 0
    ) -> None:
        self.rows = sampler
        self.given = 0
        self.iterated = False  # since construction, or since a state was loaded
        super().__init__(
            _Rows(collate),
            batch_sampler=sampler,
            collate_fn=collate,
            num_workers=workers,
            # a forked worker can hang when threads of the process group are already running
            multiprocessing_context="forkserver" if workers else None,
            persistent_workers=bool(workers),
        )

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        if self.iterated:
            self.rows.epoch += 1
            self.rows.position = 0
        self.iterated = True
        self.given = self.rows.position
        return self._count(super().__iter__())

    def _count(self, batches: Iterator[Any]) -> Iterator[Any]:
        for batch in self._foretold(batches):
            self.given += 1
            yield batch

    def _foretold(self, batches: Iterator[Any]) -> Iterator[Any]:
        """With `step_targets`: the `targets` of all micro-batches of this rank's share of a global batch, where batches count
        them. A loss of several means needs the counts before its first micro-batch."""
        while group := list(islice(batches, self.rows.batching.accumulation)):
            if "targets" in group[0]:
                together = torch.stack([batch["targets"] for batch in group]).sum(0)
                group = [{**batch, "step_targets": together} for batch in group]
            yield from group

    def state_dict(self) -> dict[str, int]:
        """`position` counts global batches: a run may go on with other micro-batches or ranks."""
        return {"epoch": self.rows.epoch, "position": self.given // self.rows.batching.accumulation}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.rows.epoch, self.rows.position = state["epoch"], state["position"] * self.rows.batching.accumulation
        self.given, self.iterated = self.rows.position, False
