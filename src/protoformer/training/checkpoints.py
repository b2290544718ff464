"""What happens around training steps: checkpoints to continue from, random state, speed, the progress line."""

import logging
import math
import random
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback, Checkpoint

from protoformer.distributed.signals import stopped
from protoformer.errors import DivergedError
from protoformer.modules.task_module import TaskModule

log = logging.getLogger(__name__)


class RandomState(Callback):
    """Every rank's random state in every checkpoint, so that a continued run draws the same dropout masks."""

    def __init__(self) -> None:
        self.saved: list[dict[str, Any]] | None = None

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        version, numbers, gauss = random.getstate()
        mine = {
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state() if torch.cuda.is_initialized() else None,
            "python": [version, list(numbers), gauss],
        }
        everyone: list[Any] = [mine]
        if trainer.world_size > 1:
            everyone = [None] * trainer.world_size
            torch.distributed.all_gather_object(everyone, mine)
        checkpoint["random_state"] = everyone

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        self.saved = checkpoint.get("random_state")

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """As late as possible: the sanity check and the set-up draw numbers of their own."""
        if self.saved is None:
            return
        if len(self.saved) != trainer.world_size:
            log.info(
                "continuing on %d processes, before there were %d: dropout draws other numbers from here on",
                trainer.world_size, len(self.saved),
            )  # fmt: skip
            return
        state, self.saved = self.saved[trainer.global_rank], None
        torch.set_rng_state(state["torch"])
        if state["cuda"] is not None and torch.cuda.is_available():
            torch.cuda.set_rng_state(state["cuda"])
        version, numbers, gauss = state["python"]
        random.setstate((version, tuple(numbers), gauss))


class SaveBestCheckpoint(Checkpoint):
    """`best.ckpt`, the weights of the highest `val/score`; of equal ones the earliest.

    Lightning's own forgets what was best when a run folder has been moved, and overwrites it with something worse.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.score: float | None = None

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        found = trainer.callback_metrics.get("val/score")
        if trainer.state.fn != "fit" or trainer.sanity_checking or found is None:
            return
        score = float(found)
        if self.score is None or score > self.score:
            self.score = score
            trainer.save_checkpoint(self.path, weights_only=True)

    def state_dict(self) -> dict[str, Any]:
        return {"score": self.score}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.score = state_dict["score"]


class SaveLastCheckpoint(Checkpoint):
    """`last.ckpt` every so many optimizer steps, after each validation and epoch, and when TERM or USR1 asks to stop.

    The wish to stop travels with the step's own reduction, so that all ranks stop at the same step. As a Checkpoint it
    comes after all other callbacks (and after the best checkpoint, listed before it), whose state it saves.
    """

    def __init__(self, path: Path, every: int) -> None:
        self.path, self.every = path, every
        self.saved_at = -1

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not isinstance(pl_module, TaskModule):
            raise TypeError("SaveLastCheckpoint needs an TaskModule")
        pl_module.stoppable = True

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if isinstance(pl_module, TaskModule):
            pl_module.stoppable = False

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        loop = trainer.fit_loop
        if loop._should_accumulate():
            return
        if trainer.global_step >= (getattr(pl_module, "total_steps", None) or math.inf):
            trainer.should_stop = True  # validates now, also where `max_steps` ends an epoch early
        fetcher = loop._data_fetcher
        if fetcher is None or loop.epoch_loop._should_check_val_fx(fetcher) or loop.epoch_loop._is_training_done:
            return  # Lightning cannot continue between the last step and what follows it: save after that
        if pl_module.stop_agreed or trainer.global_step % self.every == 0:
            self._save(trainer, pl_module)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._save(trainer, pl_module)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.saved_at != trainer.global_step:
            self._save(trainer, pl_module)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        checkpoint["accumulation"] = trainer.accumulate_grad_batches

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Lightning counts micro-batches; a run may go on with other ones, cut from the same global batches."""
        before, now = checkpoint.get("accumulation", 1), trainer.accumulate_grad_batches
        if before == now:
            return
        log.info("continuing with %d micro-batches a step, before there were %d", now, before)
        for counts in checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"].values():
            if isinstance(counts, dict):
                lag = counts["ready"] - counts["completed"]
                for name in ("ready", "started", "processed"):
                    counts[name] = counts[name] // before * now
                counts["completed"] = counts["ready"] - lag

    def _save(self, trainer: pl.Trainer, pl_module: Any) -> None:
        norm = torch.nn.utils.get_total_norm([p.detach() for p in pl_module.parameters()])
        if not math.isfinite(float(norm)):
            raise DivergedError(
                f"weights are no numbers any more at step {trainer.global_step}; the last good checkpoint is kept "
                "(a lower recipe.lr, or a longer recipe.warmup, is the usual cure)"
            )
        trainer.save_checkpoint(self.path)
        self.saved_at = trainer.global_step
        if pl_module.stop_agreed and trainer.global_step < (getattr(pl_module, "total_steps", None) or math.inf):
            raise stopped(pl_module.stop_wanted, trainer.global_step)
