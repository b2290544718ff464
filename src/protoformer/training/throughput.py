"""Throughput: examples, tokens and FLOPs a second over all ranks."""

import logging
import time
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback

from protoformer.modules.task_module import TaskModule

log = logging.getLogger(__name__)


class Throughput(Callback):
    """Examples, tokens and estimated FLOPs a second over all ranks, training steps alone (no validation, no checkpoint).
    `peak` is what one rank's device could reach, for the share of it (MFU).

    It also hands the step's own numbers to the loggers, at once and under the count of optimizer steps: Lightning does so
    after the checkpoint callbacks, and a run that is stopped there would miss a line.
    """

    def __init__(self, log_every: int = 10, peak: float | None = None) -> None:
        self.log_every, self.peak = log_every, peak
        self.examples = self.tokens = self.flops = 0.0
        self.seconds = 0.0
        self.pending = 0.0  # seconds of the current window, before a validation broke in
        self.rates: tuple[float, float] | None = None
        self.begun = 0.0

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self.begun = self.begun or time.perf_counter()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if (trainer.global_step % self.log_every or trainer.fit_loop._should_accumulate()) and (
            batch_idx + 1 < trainer.num_training_batches
        ):
            return
        if not isinstance(pl_module, TaskModule):
            return
        counts = trainer.strategy.reduce(pl_module.seen.clone(), reduce_op="sum")  # waits for the device
        pl_module.seen.zero_()
        examples, tokens, flops = counts.tolist()
        now = time.perf_counter()
        seconds, self.begun, self.pending = now - self.begun + self.pending, 0.0, 0.0
        self.examples, self.tokens, self.flops = self.examples + examples, self.tokens + tokens, self.flops + flops
        self.seconds += seconds
        self.rates = (examples / seconds, tokens / seconds)
        values = {name: float(value) for name, value in pl_module.step_metrics.items()}
        values |= {"train/examples_per_s": self.rates[0], "train/tokens_per_s": self.rates[1]}
        values["train/flops_per_s"] = flops / seconds
        if self.peak:
            values["train/mfu"] = flops / seconds / (self.peak * trainer.world_size)
        for logger in trainer.loggers:
            logger.log_metrics({**values, "epoch": trainer.current_epoch}, step=trainer.global_step)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.begun:
            self.pending += time.perf_counter() - self.begun
        self.begun = 0.0

    def state_dict(self) -> dict[str, float]:
        return {"examples": self.examples, "tokens": self.tokens, "flops": self.flops, "seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for name, value in state_dict.items():
            setattr(self, name, value)
