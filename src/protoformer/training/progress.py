"""Progress on a terminal (a bar) or in a log file (a line now and then)."""

import logging
import os
import time
from collections.abc import Mapping
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback, RichProgressBar

from protoformer.training.throughput import Throughput

log = logging.getLogger(__name__)


def step_loss(module: pl.LightningModule) -> float | None:
    """The loss of the last optimizer step, a target."""
    return getattr(module, "step_metrics", {}).get("train/loss")


def short(number: float) -> str:
    """Three digits, such as 12.6k: a bar has little room."""
    return f"{number / 1000:.3g}k" if number >= 1000 else f"{number:.3g}"


class ProgressBar(RichProgressBar):
    """Loss, dev score, examples and tokens a second; Lightning's own columns give the time left."""

    def __init__(self, throughput: Throughput) -> None:
        super().__init__()
        self.throughput = throughput

    def get_metrics(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, int | str | float | dict]:
        known: Mapping[str, Any] = trainer.callback_metrics
        shown: dict[str, int | str | float | dict] = {}
        for word, value in (("loss", step_loss(pl_module)), ("dev", known.get("val/score"))):
            if value is not None:
                shown[word] = f"{float(value):.4f}"
        if self.throughput.rates is not None:
            shown["ex/s"], shown["tok/s"] = (short(rate) for rate in self.throughput.rates)
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
            total = getattr(pl_module, "total_steps", None) or 0
            done = trainer.global_step - self.first_step
            left = (now - self.begun) / max(1, done) * (total - trainer.global_step)
            loss = step_loss(pl_module) or float("nan")
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
