"""What happens around training steps: checkpoints to continue from, random state, speed, the progress line."""

import os
import random
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback, RichProgressBar

from protoformer.errors import InterruptedRunError
from protoformer.modules.objective import ObjectiveModule


class RandomState(Callback):
    """Every rank's random state in every checkpoint, so that a continued run draws the same dropout masks."""

    def __init__(self) -> None:
        self.saved: list[dict[str, Any]] | None = None

    def on_save_checkpoint(self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]) -> None:
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

    def on_load_checkpoint(self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]) -> None:
        self.saved = checkpoint.get("random_state")

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """As late as possible: the sanity check and the set-up draw numbers of their own."""
        if self.saved is None or len(self.saved) != trainer.world_size:
            return
        state, self.saved = self.saved[trainer.global_rank], None
        torch.set_rng_state(state["torch"])
        if state["cuda"] is not None and torch.cuda.is_available():
            torch.cuda.set_rng_state(state["cuda"])
        version, numbers, gauss = state["python"]
        random.setstate((version, tuple(numbers), gauss))


class SaveLast(Callback):
    """`last.ckpt` every so many optimizer steps, after each epoch, and when TERM or USR1 asks to stop.

    The wish to stop travels with the step's own reduction, so that all ranks stop at the same step.
    """

    def __init__(self, path: Path, every: int) -> None:
        self.path, self.every = path, every
        self.saved_at = -1

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not isinstance(pl_module, ObjectiveModule):
            raise TypeError("SaveLast needs an ObjectiveModule")

        def ask(number: int, frame: FrameType | None) -> None:
            pl_module.stop_wanted = True

        for name in (signal.SIGTERM, signal.SIGUSR1):
            signal.signal(name, ask)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if getattr(pl_module, "stop_agreed", False):
            self._save(trainer)
            raise InterruptedRunError(f"stopped at step {trainer.global_step}; the same command continues from there")
        if trainer.global_step % self.every == 0:
            self._save(trainer)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not trainer.sanity_checking and trainer.state.fn == "fit":
            self._save(trainer)

    def _save(self, trainer: pl.Trainer) -> None:
        if trainer.global_step != self.saved_at:
            self.saved_at = trainer.global_step
            trainer.save_checkpoint(self.path)


class Throughput(Callback):
    """Examples and tokens a second over all ranks, training steps alone (no validation, no checkpoint)."""

    def __init__(self, log_every: int = 10) -> None:
        self.log_every = log_every
        self.examples = self.tokens = 0.0
        self.seconds = 0.0
        self.pending = 0.0  # seconds of the current window, before a validation broke in
        self.rates: tuple[float, float] | None = None
        self.begun = 0.0

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int) -> None:
        self.begun = self.begun or time.perf_counter()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if (trainer.global_step % self.log_every or trainer.fit_loop._should_accumulate()) and (
            batch_idx + 1 < trainer.num_training_batches
        ):
            return
        if not isinstance(pl_module, ObjectiveModule):
            return
        counts = trainer.strategy.reduce(pl_module.seen.double(), reduce_op="sum")  # waits for the device
        pl_module.seen.zero_()
        examples, tokens = counts.tolist()
        now = time.perf_counter()
        seconds, self.begun, self.pending = now - self.begun + self.pending, 0.0, 0.0
        self.examples, self.tokens, self.seconds = self.examples + examples, self.tokens + tokens, self.seconds + seconds
        self.rates = (examples / seconds, tokens / seconds)
        pl_module.log_dict(
            {"train/examples_per_s": self.rates[0], "train/tokens_per_s": self.rates[1]}, batch_size=1
        )

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.begun:
            self.pending += time.perf_counter() - self.begun
        self.begun = 0.0

    def state_dict(self) -> dict[str, float]:
        return {"examples": self.examples, "tokens": self.tokens, "seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.examples, self.tokens, self.seconds = state_dict["examples"], state_dict["tokens"], state_dict["seconds"]


class ProgressBar(RichProgressBar):
    """Loss, dev score, examples and tokens a second; Lightning's own columns give the time left."""

    def __init__(self, throughput: Throughput) -> None:
        super().__init__()
        self.throughput = throughput

    def get_metrics(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, int | str | float | dict]:
        known: Mapping[str, Any] = trainer.callback_metrics
        shown: dict[str, int | str | float | dict] = {}
        for key, word in (("train/loss", "loss"), ("val/score", "dev")):
            if key in known:
                shown[word] = f"{float(known[key]):.4f}"
        if self.throughput.rates is not None:
            shown["ex/s"], shown["tok/s"] = (f"{rate:.0f}" for rate in self.throughput.rates)
        return shown


class ProgressLines(Callback):
    """For a terminal that is none (a log file, a job): one line now and then instead of a bar."""

    def __init__(self, throughput: Throughput, every: float = 15.0) -> None:
        self.throughput, self.every = throughput, every
        self.last = self.begun = 0.0
        self.first_step = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.begun = self.last = time.monotonic()
        self.first_step = trainer.global_step

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        now = time.monotonic()
        if trainer.is_global_zero and now - self.last >= self.every and self.throughput.rates:
            self.last = now
            total = int(trainer.estimated_stepping_batches)
            done = trainer.global_step - self.first_step
            left = (now - self.begun) / max(1, done) * (total - trainer.global_step)
            loss = float(trainer.callback_metrics.get("train/loss", float("nan")))
            print(
                f"step {trainer.global_step}/{total}  loss {loss:.4f}  {self.throughput.rates[0]:.0f} ex/s  "
                f"{self.throughput.rates[1]:.0f} tok/s  {left / 60:.1f} min left",
                flush=True,
            )

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        score = trainer.callback_metrics.get("val/score")
        if trainer.is_global_zero and not trainer.sanity_checking and score is not None and trainer.state.fn == "fit":
            print(f"step {trainer.global_step}  dev score {float(score):.4f}", flush=True)


def interactive() -> bool:
    """Whether a person looks at the output."""
    return os.isatty(1) and os.environ.get("TERM") != "dumb"
