"""When checkpoints are saved: SaveBestCheckpoint (`best.ckpt`) and SaveLastCheckpoint (`last.ckpt`)."""

import logging
import math
import time
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Checkpoint

from protoformer.errors import DivergedError
from protoformer.modules.objective.gradient_normalizer import DIVERGED_ADVICE, global_norm
from protoformer.modules.task_module import TaskModule
from protoformer.runs.folder import RunFolder
from protoformer.training.callbacks.moving_average import WeightAverage
from protoformer.training.callbacks.rng_state import random_state, set_random_state
from protoformer.training.callbacks.stop_in_evaluation import Agreement
from protoformer.training.checkpoints import VALIDATION_IS_DUE, keep_replaced
from protoformer.training.lightning_internals import (
    end_complete_epoch,
    fitting_beyond,
    is_accumulating,
    rescale_batch_progress,
    reset_validation,
    validate_now,
    validation_or_end_follows,
)
from protoformer.training.metrics_log import MetricsLog

log = logging.getLogger(__name__)


class SaveBestCheckpoint(Checkpoint):
    """Saves `best.ckpt`, the weights of the highest `val/score`, or their moving `average`; of equal scores the earliest.

    Of scores of 0, which a model has that has learned nothing yet, the one with the lowest dev loss.

    Differs from Lightning's ModelCheckpoint, which forgets the best score when a run folder has been moved, and then overwrites
    the best checkpoint with a worse one.
    """

    def __init__(self, path: Path, average: WeightAverage | None = None) -> None:
        self.path, self.average = path, average
        self.score: float | None = None
        self.loss = math.inf

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        logged = trainer.callback_metrics.get("val/score")
        if trainer.state.fn != "fit" or trainer.sanity_checking or logged is None:
            return
        score, loss = float(logged), _dev_loss(trainer)
        if self.score is None or score > self.score or (score == self.score == 0 and loss < self.loss):
            self.score, self.loss = score, loss
            self.save(trainer)

    def save(self, trainer: pl.Trainer) -> None:
        """Save what would be evaluated now. Every rank must call it."""
        with nullcontext() if self.average is None else self.average.applied():
            trainer.save_checkpoint(self.path, weights_only=True)

    def state_dict(self) -> dict[str, Any]:
        return {"score": self.score, "loss": self.loss}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.score, self.loss = state_dict["score"], state_dict.get("loss", math.inf)


def _dev_loss(trainer: pl.Trainer) -> float:
    """The mean dev loss of all dev sets; infinite where none is logged."""
    losses = [
        float(value)
        for name, value in trainer.callback_metrics.items()
        if name.startswith("val/") and name.split("/")[-1] == "loss"
    ]
    return sum(losses) / len(losses) if losses else math.inf


class SaveLastCheckpoint(Checkpoint):
    """Saves `last.ckpt` every `every_n_steps` optimizer steps, after each validation and epoch, and when all ranks have
    agreed to stop; then it ends the run with InterruptedRunError. The last `keep` checkpoints stay.

    A validation is left where a stop was requested: what is saved then is the state after the step before, and the run that
    continues from there begins with that validation.

    With `every_minutes` it also saves where so much time is over by the first rank's clock, read every `log_every` steps.

    Lightning calls Checkpoint callbacks after all others, so their states are complete when they are saved. It must be listed
    after SaveBestCheckpoint. Weights that are not finite are never written (DivergedError): the last good checkpoint stays.
    """

    def __init__(
        self,
        folder: RunFolder,
        every_n_steps: int,
        *,
        every_minutes: float | None = None,
        keep: int = 1,
        log_every: int = 1,
        average: WeightAverage | None = None,
    ) -> None:
        self.folder, self.every_n_steps, self.every_minutes = folder, every_n_steps, every_minutes
        self.keep, self.log_every, self.average = keep, log_every, average
        self.saved_at_step = -1
        self.saved_at = time.monotonic()
        self.agreement = Agreement()
        self.validation_is_due = False
        self._random_state: dict[str, Any] = {}  # before a validation
        self._fit_beyond = ExitStack()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        _task_module(pl_module).stop.check()
        if self.validation_is_due:
            self._random_state = random_state()
            validate_now(trainer)
            self._fit_beyond.close()
        end_complete_epoch(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        _task_module(pl_module).stop.end_steps()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        if is_accumulating(trainer):
            return
        module = _task_module(pl_module)
        module.stop.begin_steps()  # before the first step's end there is nothing to save, and it may compile for minutes
        if _is_last_step(trainer, module):
            trainer.should_stop = True  # validates now, also where `max_steps` ends an epoch early
        if validation_or_end_follows(trainer):
            self._random_state = random_state()
            return  # saved by the hooks below, which come after it
        if module.stop.agreed or trainer.global_step % self.every_n_steps == 0 or self._is_overdue(trainer):
            self._save(trainer, module)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.agreement = Agreement()

    def on_validation_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *rest: object) -> None:
        module = _task_module(pl_module)
        if trainer.state.fn == "fit" and self.agreement.reached(trainer, module.stop):
            module.discard_evaluation()
            reset_validation(trainer)
            if self.average is not None:
                self.average.withdraw()
            set_random_state(self._random_state)
            self.validation_is_due = True
            self._save(trainer, module)
            raise module.stop.grant(trainer.global_step)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self.validation_is_due = False
            self._save(trainer, _task_module(pl_module))

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.saved_at_step != trainer.global_step:
            self._save(trainer, _task_module(pl_module))

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, object]
    ) -> None:
        checkpoint["accumulation"] = trainer.accumulate_grad_batches
        if self.validation_is_due:
            checkpoint[VALIDATION_IS_DUE] = True
        for logger in trainer.loggers:
            if isinstance(logger, MetricsLog):
                checkpoint["logged_lines"] = logger.lines

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        self.validation_is_due = checkpoint.get(VALIDATION_IS_DUE, False)
        if self.validation_is_due:
            self._fit_beyond.enter_context(fitting_beyond(trainer, checkpoint["global_step"]))
        before, now = checkpoint.get("accumulation", 1), trainer.accumulate_grad_batches
        if before != now:
            log.info("continuing with %d micro-batches per step instead of %d", now, before)
            rescale_batch_progress(checkpoint, before, now)

    def _is_overdue(self, trainer: pl.Trainer) -> bool:
        """Whether `every_minutes` are over; every rank has the answer of the first one."""
        if self.every_minutes is None or trainer.global_step % self.log_every:
            return False
        overdue = time.monotonic() - self.saved_at >= 60 * self.every_minutes
        return trainer.strategy.broadcast(overdue)

    def _save(self, trainer: pl.Trainer, module: TaskModule) -> None:
        if not math.isfinite(float(global_norm(p.detach() for p in module.parameters()))):
            raise DivergedError(
                f"weights are not finite at step {trainer.global_step}; the last good checkpoint is kept ({DIVERGED_ADVICE})"
            )
        with keep_replaced(self.folder, self.keep) if trainer.is_global_zero else nullcontext():
            trainer.save_checkpoint(self.folder.last_checkpoint)
        self.saved_at_step, self.saved_at = trainer.global_step, time.monotonic()
        if module.stop.agreed and not _is_last_step(trainer, module):
            raise module.stop.grant(trainer.global_step)


def _task_module(module: pl.LightningModule) -> TaskModule:
    if not isinstance(module, TaskModule):
        raise TypeError("SaveLastCheckpoint needs a TaskModule")
    return module


def _is_last_step(trainer: pl.Trainer, module: TaskModule) -> bool:
    return module.is_over(trainer.global_step)
