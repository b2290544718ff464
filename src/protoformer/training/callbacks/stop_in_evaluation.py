"""Safe places for a stop in evaluations: StopInEvaluation after training, Agreement of all ranks within it."""

import time

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback

from protoformer.distributed.signals import StopRequest

EVERY = 1.0  # seconds between two questions


class Agreement:
    """Asked by every rank before each of its batches, of which all have as many. Ranks wait for one another only where they
    exchange what they know: before the first batch, and then about every second by the first rank's clock."""

    def __init__(self) -> None:
        self.started_at = time.monotonic()
        self.batches = 0
        self.next_exchange = 0

    def reached(self, trainer: pl.Trainer, stop: StopRequest) -> bool:
        """Whether all ranks know that the run is to stop."""
        if trainer.world_size == 1:
            stop.agree(stop.agreed or stop.requested)
        elif not stop.agreed and self.batches == self.next_exchange:
            seconds = (time.monotonic() - self.started_at) / max(1, self.batches)  # a batch
            interval = max(1, int(EVERY / max(seconds, EVERY / 1000))) if self.batches else 1
            own = [float(stop.requested), float(interval) if trainer.is_global_zero else 0.0]
            total = trainer.strategy.reduce(torch.tensor(own, device=trainer.strategy.root_device), reduce_op="sum")
            requested, interval = total.tolist()
            stop.agree(requested > 0)
            self.next_exchange += int(interval)
        self.batches += 1
        return stop.agreed


class StopInEvaluation(Callback):
    """Ends the run before an evaluation batch where a stop was requested. While a fit validates, SaveLastCheckpoint does."""

    def __init__(self, stop: StopRequest) -> None:
        self.stop = stop

    def on_validation_batch_start(self, trainer: pl.Trainer, *args: object, **kwargs: object) -> None:
        if trainer.state.fn != "fit":
            self.stop.check()

    def on_test_batch_start(self, *args: object, **kwargs: object) -> None:
        self.stop.check()
