"""A DataLoader whose position is saved, so that a run continues with the very next batch."""

import contextlib
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from protoformer.data.batching.host_counts import WithHostCounts
from protoformer.data.batching.samplers import MicroBatchSampler, PhasedSampler
from protoformer.distributed.children import deaf_children, end_with_run
from protoformer.errors import LostRankError


class _RowNumbers(Dataset[int]):
    """Row numbers; the collate function reads the rows themselves, a batch at a time."""

    def __getitems__(self, indices: list[int]) -> list[int]:
        return indices


class BatchLoader(DataLoader[Any]):
    """Micro-batches of one epoch after another.

    The state counts batches that were served, not those fetched ahead; it is right wherever a global batch is complete. The
    first `iter` continues from the loaded state (or begins epoch 0). Each later one begins the next epoch, also when a
    trainer's limit left the last one before its end.

    `seconds_waited` is the time that the loop which takes the batches has spent on getting them: on waiting for the workers,
    or without workers on making them.
    """

    def __init__(
        self, sampler: MicroBatchSampler | PhasedSampler, collate: Callable[[list[int]], Any], workers: int = 0
    ) -> None:
        self.micro_batches = sampler
        self.batches_served = 0  # of this epoch
        self.iterated = False  # since construction, or since a state was loaded
        self.seconds_waited = 0.0  # of this process
        self.modules = [__name__, *({getattr(collate, "__module__", __name__)} - {__name__, "__main__"})]
        super().__init__(
            _RowNumbers(),
            batch_sampler=sampler,
            collate_fn=WithHostCounts(collate),
            num_workers=workers,
            pin_memory=sampler.config.pin_memory,
            # a forked worker can hang when threads of the process group are already running
            multiprocessing_context="forkserver" if workers else None,
            persistent_workers=bool(workers),
            worker_init_fn=partial(_begin_worker, os.getpid()) if workers else None,
        )

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]  # torch says _BaseDataLoaderIter
        if self.iterated:
            self.micro_batches.epoch += 1
            self.micro_batches.position = 0
        self.iterated = True
        self.batches_served = self.micro_batches.position
        if (
            self.num_workers and self._iterator is not None
        ):  # torch draws so for each epoch, with workers for the first alone
            torch.empty((), dtype=torch.int64).random_()
        return self._counted(self._started(super().__iter__) if self.num_workers else super().__iter__())

    def _started(self, iterate: Callable[[], Iterator[object]]) -> Iterator[object]:
        """Start the workers, with the forkserver they come from, which has imported what they need. All end with this process;
        none takes a signal that the terminal or the cluster sends to the whole process group, since this process still needs
        their batches."""
        multiprocessing.set_forkserver_preload(["protoformer.distributed.forkserver", *self.modules])
        with deaf_children():
            return iterate()

    def _counted(self, batches: Iterator[Any]) -> Iterator[Any]:
        with _lost_worker_named():
            started_at = time.perf_counter()
            for batch in self._with_step_targets(batches):
                self.batches_served += 1
                self.seconds_waited += time.perf_counter() - started_at
                yield batch
                started_at = time.perf_counter()

    def _with_step_targets(self, batches: Iterator[Any]) -> Iterator[Any]:
        """Batches that count their `targets`, with `step_targets`: the sum over this rank's micro-batches of a global batch.

        A loss of several means needs these counts before the first micro-batch.
        """
        while step := list(islice(batches, self.micro_batches.config.accumulation)):
            if "targets" in step[0]:
                step_targets = torch.stack([batch["targets"] for batch in step]).sum(0)
                step = [{**batch, "step_targets": step_targets} for batch in step]
            yield from step

    def end_epoch(self) -> None:
        """Let the next `iter` begin the next epoch, where a loaded state is that of the end of one."""
        self.iterated = True

    def state_dict(self) -> dict[str, int]:
        """`position` counts global batches: a run may continue with other micro-batches or ranks."""
        accumulation = self.micro_batches.config.accumulation
        return {"epoch": self.micro_batches.epoch, "position": self.batches_served // accumulation}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.micro_batches.epoch = state["epoch"]
        self.micro_batches.position = state["position"] * self.micro_batches.config.accumulation
        self.batches_served, self.iterated = self.micro_batches.position, False


def _begin_worker(rank_pid: int, number: int) -> None:
    end_with_run(rank_pid)


@contextlib.contextmanager
def _lost_worker_named() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        if not str(error).startswith("DataLoader worker"):
            raise
        raise LostRankError(
            f"a process that loads data was killed ({str(error).splitlines()[0]}); too little memory is the usual cause. The "
            "same command continues the run"
        ) from error
