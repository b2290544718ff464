"""Progress of training as lines in a log file, and the texts that they share with the bar on a terminal (`bar`)."""

import math
import os
import time
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback

from protoformer.data.batching.samplers import PhasedSampler
from protoformer.training.callbacks.throughput import Counts, Throughput

UNITS = ((1, ""), (1e3, "k"), (1e6, "M"), (1e9, "G"))


def step_loss(module: pl.LightningModule) -> float | None:
    """The mean loss of the last optimizer step (None before the first)."""
    metrics = getattr(module, "step_metrics", None)
    return None if metrics is None else metrics.loss


def dev_text(trainer: pl.Trainer, module: pl.LightningModule) -> str | None:
    """`score 76.58` (times 100, as papers print scores), or the metric that people know such a model by, as `perplexity 20.31`;
    None where nothing was validated, or all labels are hidden."""
    metrics = trainer.callback_metrics
    for split, evaluation in getattr(module, "evaluations", {}).get("val", {}).items():
        key = f"val/{split}/{evaluation.headline}".replace("//", "/")
        if evaluation.headline and key in metrics:
            return f"{evaluation.headline} {float(metrics[key]):.4g}"
    score = metrics.get("val/score")
    return None if score is None else f"score {100 * float(score):.2f}"


def passes(trainer: pl.Trainer, steps: int) -> float | None:
    """Passes over the training data (or the part of it that `limit_train_batches` leaves) that `steps` optimizer steps make;
    None where the data's size is not known."""
    sampler = getattr(getattr(trainer, "train_dataloader", None), "micro_batches", None)
    if isinstance(sampler, PhasedSampler):  # whose epoch is the whole run
        return sampler.passes(steps)
    steps_per_epoch = trainer.num_training_batches / trainer.accumulate_grad_batches
    return steps / steps_per_epoch if 0 < steps_per_epoch < math.inf else None


def seconds_left(started_at: float, first_step: int, step: int, total: int) -> float | None:
    """Seconds until the last step, at the mean speed since this process began to train (None before its first step)."""
    if step <= first_step:
        return None
    return (time.monotonic() - started_at) / (step - first_step) * (total - step)


def steps_and_seconds_left(
    module: pl.LightningModule, started_at: float, first_step: int, step: int
) -> tuple[int, float | None]:
    """Steps of the whole run, and seconds until the last one; where time ends the run sooner both by its clock, the steps at
    the mean speed so far."""
    total = getattr(module, "total_steps", None) or 0
    left = seconds_left(started_at, first_step, step, total) if total else None
    clock = getattr(module, "clock", None)
    if clock is None or step <= first_step or (left is not None and left <= clock.seconds_left):
        return total, left
    seconds_per_step = (time.monotonic() - started_at) / (step - first_step)
    return step + math.ceil(clock.seconds_left / max(1e-9, seconds_per_step)), clock.seconds_left


def abbreviate(number: float) -> str:
    """A rate in three digits, such as 12.6k or 1.2M, for the narrow bar."""
    size, unit = next((each for each in UNITS if number < 999.5 * each[0]), UNITS[-1])
    return f"{number / size:.3g}{unit}"


Batches = int | float | list[int | float]  # as Lightning counts them, of one loader or of each


class EvaluationRate:
    """Examples that an evaluation has had so far, since `start`."""

    def start(self, batches: Batches) -> None:
        """`batches` is Lightning's number of them, of one loader or of each."""
        self.total = int(sum(batches)) if isinstance(batches, list) else int(batches)
        self.batches, self.examples, self.started_at = 0, 0, time.monotonic()

    def add(self, batch: Any) -> None:
        self.batches += 1
        self.examples += int((batch["example_ids"] >= 0).sum())

    def details(self, module: pl.LightningModule) -> list[str]:
        """Examples a second, and what the kind of task has to say of its speed."""
        seconds = time.monotonic() - self.started_at
        rate = self.examples / seconds if seconds > 0 else 0.0
        return [f"{abbreviate(rate)} examples/s", *getattr(module, "evaluation_details", ())]

    @property
    def seconds_left(self) -> float:
        return (time.monotonic() - self.started_at) / max(1, self.batches) * (self.total - self.batches)


class ProgressOfEvaluation(Callback):
    """Base of what shows an evaluation under way: validations and tests are counted alike, in `evaluation`."""

    def __init__(self) -> None:
        self.evaluation = EvaluationRate()

    def on_evaluation_start(self, trainer: pl.Trainer, batches: Batches, title: str) -> None:
        """An evaluation of so many batches begins."""

    def on_evaluation_batch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """A batch is evaluated, and counted."""

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.evaluation.start(trainer.num_val_batches)
        self.on_evaluation_start(trainer, trainer.num_val_batches, "validating")

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.evaluation.start(trainer.num_test_batches)
        self.on_evaluation_start(trainer, trainer.num_test_batches, "testing")

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: object,
        batch: object,
        *args: object,
        **kwargs: object,
    ) -> None:
        self.evaluation.add(batch)
        self.on_evaluation_batch_end(trainer, pl_module)

    on_test_batch_end = on_validation_batch_end


class ProgressLines(ProgressOfEvaluation):
    """A line every `every_n_seconds` and after each validation, for output that is no terminal (a log file, a job).

    Its rates are those of the training steps since the line before.
    """

    def __init__(self, throughput: Throughput, every_n_seconds: float = 15.0) -> None:
        super().__init__()
        self.throughput, self.every_n_seconds = throughput, every_n_seconds
        self.printed_at = self.started_at = 0.0
        self.first_step = 0
        self.totals = Counts()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.started_at = self.printed_at = time.monotonic()
        self.first_step = trainer.global_step
        self.totals = self.throughput.totals(trainer.world_size)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        now = time.monotonic()
        step = trainer.global_step
        total, left = steps_and_seconds_left(pl_module, self.started_at, self.first_step, step)
        if not trainer.is_global_zero or now - self.printed_at < self.every_n_seconds or left is None:
            return
        before, self.totals, self.printed_at = self.totals, self.throughput.totals(trainer.world_size), now
        seconds = max(1e-9, self.totals.seconds - before.seconds)
        loss = step_loss(pl_module)
        print(
            f"step {step:,}/{total:,}  loss {float('nan') if loss is None else loss:.4f}  "
            f"{(self.totals.examples - before.examples) / seconds:.0f} ex/s  "
            f"{(self.totals.tokens - before.tokens) / seconds:.0f} tok/s  {left / 60:.1f} min left",
            flush=True,
        )

    def on_evaluation_start(self, trainer: pl.Trainer, batches: Batches, title: str) -> None:
        self.printed_at = time.monotonic()

    def on_evaluation_batch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        evaluation = self.evaluation
        now = time.monotonic()
        if not trainer.is_global_zero or now - self.printed_at < self.every_n_seconds:
            return
        self.printed_at = now
        details = "  ".join(evaluation.details(module))
        left = f"{evaluation.seconds_left / 60:.1f} min left"
        print(f"evaluated {evaluation.batches:,}/{evaluation.total:,} batches  {details}  {left}", flush=True)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        dev = dev_text(trainer, pl_module)
        if trainer.is_global_zero and not trainer.sanity_checking and dev is not None and trainer.state.fn == "fit":
            print(f"step {trainer.global_step:,}  dev {dev}", flush=True)


def is_interactive() -> bool:
    """Whether standard output is a terminal that can show a bar."""
    return os.isatty(1) and os.environ.get("TERM") != "dumb"
