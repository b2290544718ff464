"""Progress of training: a bar on a terminal, lines in a log file."""

import logging
import os
import time
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback, RichProgressBar

from protoformer.training.callbacks.throughput import Throughput

log = logging.getLogger(__name__)


def step_loss(module: pl.LightningModule) -> float | None:
    """The mean loss of the last optimizer step (None before the first)."""
    metrics = getattr(module, "step_metrics", None)
    return None if metrics is None else metrics.loss


def abbreviate(number: float) -> str:
    """A rate in three digits, such as 12.6k, for the narrow bar."""
    return f"{number / 1000:.3g}k" if number >= 1000 else f"{number:.3g}"


class ProgressBar(RichProgressBar):
    """Loss, dev score, examples and tokens a second, beside Lightning's own columns with the time left."""

    def __init__(self, throughput: Throughput) -> None:
        super().__init__()
        self.throughput = throughput

    def get_metrics(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, int | str | float | dict]:
        metrics: dict[str, int | str | float | dict] = {}
        for name, value in (("loss", step_loss(pl_module)), ("dev", trainer.callback_metrics.get("val/score"))):
            if value is not None:
                metrics[name] = f"{float(value):.4f}"
        rates = self.throughput.rates
        if rates is not None:
            metrics |= {"ex/s": abbreviate(rates.examples_per_s), "tok/s": abbreviate(rates.tokens_per_s)}
        return metrics


class ProgressLines(Callback):
    """A line every `every_n_seconds` and after each validation, for output that is no terminal (a log file, a job)."""

    def __init__(self, throughput: Throughput, every_n_seconds: float = 15.0) -> None:
        self.throughput, self.every_n_seconds = throughput, every_n_seconds
        self.printed_at = self.started_at = 0.0
        self.first_step = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.started_at = self.printed_at = time.monotonic()
        self.first_step = trainer.global_step

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        now, rates = time.monotonic(), self.throughput.rates
        if not trainer.is_global_zero or now - self.printed_at < self.every_n_seconds or rates is None:
            return
        self.printed_at = now
        step, total = trainer.global_step, getattr(pl_module, "total_steps", None) or 0
        seconds_left = (now - self.started_at) / max(1, step - self.first_step) * (total - step)
        loss = step_loss(pl_module)
        print(
            f"step {step}/{total}  loss {float('nan') if loss is None else loss:.4f}  {rates.examples_per_s:.0f} ex/s  "
            f"{rates.tokens_per_s:.0f} tok/s  {seconds_left / 60:.1f} min left",
            flush=True,
        )

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        score = trainer.callback_metrics.get("val/score")
        if trainer.is_global_zero and not trainer.sanity_checking and score is not None and trainer.state.fn == "fit":
            print(f"step {trainer.global_step}  dev score {float(score):.4f}", flush=True)


def is_interactive() -> bool:
    """Whether standard output is a terminal that can show a bar."""
    return os.isatty(1) and os.environ.get("TERM") != "dumb"
