"""ProgressBar: one line on a terminal, for the whole run."""

import math
import time

import lightning.pytorch as pl
from rich.console import Console, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar as Bar
from rich.table import Table
from rich.text import Text

from protoformer.training.callbacks.progress import (
    Batches,
    ProgressOfEvaluation,
    abbreviate,
    dev_text,
    passes,
    step_loss,
    steps_and_seconds_left,
)
from protoformer.training.callbacks.throughput import Throughput
from protoformer.training.lightning_internals import is_accumulating

MIN_BAR, MAX_BAR = 6, 40  # columns of the bar itself
ECHO = 3  # columns that are left for the ^C that a terminal prints after the line: a wrapped line would not be erased


class ProgressBar(ProgressOfEvaluation):
    """Optimizer steps of the run (those before it was continued included), the time left, epoch, loss, dev score and speed;
    while it validates or tests, the batches of that.

    The line is as wide as the terminal at most: what does not fit is left out, the speed first. It is gone at the end, also
    after an exception; what others print meanwhile stands above it.
    """

    def __init__(self, throughput: Throughput, console: Console | None = None) -> None:
        super().__init__()
        self.throughput, self.console = throughput, console or Console(highlight=False)
        self.title, self.completed, self.total = "", 0, 0
        self.details: list[str] = []
        self.dev = ""
        self.started_at, self.first_step = 0.0, 0
        self._live: Live | None = None

    def render(self) -> RenderableType:
        """The line as it is now; empty when it closes."""
        if not self.title:
            return Text()
        title, details = f"{self.title} {self.completed:,}/{self.total:,}", list(self.details)
        width = self.console.width - ECHO
        while details and width - len(title) - sum(len(each) + 2 for each in details) - 2 < MIN_BAR:
            details.pop()
        columns_left = width - len(title) - sum(len(each) + 2 for each in details) - 2
        bar = Bar(total=max(1, self.total), completed=self.completed, width=max(MIN_BAR, min(MAX_BAR, columns_left)))
        line = Table.grid(padding=(0, 2, 0, 0))
        for _ in range(2 + len(details)):
            line.add_column(no_wrap=True)
        line.add_row(Text(title), bar, *map(Text, details))
        return line

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.started_at, self.first_step = time.monotonic(), trainer.global_step
        self._show_steps(trainer, pl_module)
        self._open(trainer)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        if not is_accumulating(trainer):
            self._show_steps(trainer, pl_module)

    def on_evaluation_start(self, trainer: pl.Trainer, batches: Batches, title: str) -> None:
        self.title, self.completed, self.total, self.details = title, 0, self.evaluation.total, []
        self._open(trainer)

    def on_evaluation_batch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.completed += 1
        self.details = [f"{clock(self.evaluation.seconds_left)} left", *self.evaluation.details(module)]

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.state.fn != "fit":
            self._close()
            return
        if (dev := dev_text(trainer, pl_module)) is not None and trainer.is_global_zero:
            self.dev = f"dev {dev.removeprefix('score ').replace('perplexity', 'ppl')}"
        self._show_steps(trainer, pl_module)  # before the print, under which the line is drawn again
        if dev is not None and trainer.is_global_zero:
            print(f"step {trainer.global_step:,}  dev {dev}", flush=True)

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._close()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._close()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self._close()

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self._close()

    def _show_steps(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.title, self.completed = "step", trainer.global_step
        total, left = steps_and_seconds_left(module, self.started_at, self.first_step, self.completed)
        self.total = max(self.completed, total)
        details = []
        if left is not None:
            details.append(f"{clock(left)} left")
        if (loss := step_loss(module)) is not None:
            details.append(f"loss {loss:.4g}")
        if self.dev:
            details.append(self.dev)
        details.append(_epoch(trainer, self.total))
        if (rates := self.throughput.rates) is not None:
            details.append(f"{abbreviate(rates.tokens_per_s)} tok/s")
        self.details = details

    def _open(self, trainer: pl.Trainer) -> None:
        if self._live is None and trainer.is_global_zero:
            self._live = Live(
                get_renderable=self.render, console=self.console, refresh_per_second=5, transient=True,
                vertical_overflow="crop",
            )  # fmt: skip
            self._live.start()

    def _close(self) -> None:
        live, self._live = self._live, None
        if live is not None:
            self.title = ""  # stopping draws once more
            live.stop()


def clock(seconds: float) -> str:
    """0:05, 12:40, 3:12:40, 2 d 3 h."""
    whole = round(seconds)
    if whole >= 86400:
        return f"{whole // 86400} d {whole % 86400 // 3600} h"
    minutes, rest = divmod(whole, 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}" if minutes >= 60 else f"{minutes}:{rest:02}"


def _epoch(trainer: pl.Trainer, total_steps: int) -> str:
    """The epoch, counted from 1, of those that the run's steps make."""
    so_far, of_all = passes(trainer, trainer.global_step), passes(trainer, total_steps)
    if so_far is None or of_all is None:
        return f"epoch {trainer.current_epoch + 1}"
    epochs = max(1, math.ceil(of_all - 1e-9))
    return f"epoch {min(int(so_far + 1e-9) + 1, epochs)}/{epochs}"
