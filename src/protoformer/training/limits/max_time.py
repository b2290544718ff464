"""Time limit of a training (`recipe.max_time`)."""

import logging
from collections.abc import Mapping
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback

from protoformer.durations import seconds_of
from protoformer.optim.clock import TrainingClock

log = logging.getLogger(__name__)


def training_clock(config: Mapping[str, Any]) -> TrainingClock | None:
    """The clock of a run that trains with `recipe.max_time`."""
    max_time = config["recipe"].get("max_time")
    if max_time is None or not config["task"]["splits"].get("train"):
        return None
    return TrainingClock(seconds_of(max_time))


class KeepTime(Callback):
    """Starts and stops the clock of the training, and saves its time with each checkpoint.

    The module ends the training by it (`TaskModule.is_over`). A run that is continued after its time was spent trains no
    further.
    """

    def __init__(self, clock: TrainingClock) -> None:
        self.clock = clock

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.clock.is_over:
            trainer.should_stop = True
        self.clock.start()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.clock.stop()
        if trainer.is_global_zero and self.clock.is_over:
            log.info("the time for training (recipe.max_time) was spent at step %d", trainer.global_step)

    def state_dict(self) -> dict[str, Any]:
        return self.clock.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.clock.load_state_dict(state_dict)
