"""Throughput: examples, tokens and FLOPs a second over all ranks."""

import time
from dataclasses import asdict, astuple, dataclass
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from protoformer.modules.task_module import TaskModule
from protoformer.training.lightning_internals import is_accumulating


@dataclass(frozen=True)
class Rates:
    """Rates of one window, over all ranks. `mfu` is the model FLOPs utilisation (arXiv 2204.02311, appendix B): the
    fraction of the devices' peak that the model's own operations reach (None: the peak is not known)."""

    examples_per_s: float
    tokens_per_s: float
    flops_per_s: float
    mfu: float | None = None


@dataclass(frozen=True)
class Counts:
    """What was processed, over all ranks, in so many seconds."""

    examples: float = 0.0
    tokens: float = 0.0
    flops: float = 0.0
    seconds: float = 0.0

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))

    def __sub__(self, other: "Counts") -> "Counts":
        return Counts(*(a - b for a, b in zip(astuple(self), astuple(other), strict=True)))


class Throughput(Callback):
    """Measures windows of `log_every` optimizer steps (the last of an epoch or run may be shorter), training steps alone: no
    validation, no checkpoint. `peak_flops_per_s` is the peak of one rank's device, for `mfu`.

    After a batch that ends a window `window_ended` is True and `rates` are those of the window. `total` are the counts of the
    whole run, also of one that was continued; `warm` are those without the first window of each process, which holds what a
    device does once: compilation, choice of kernels, growth of memory (all counts, where there is no other window).
    """

    def __init__(self, log_every: int = 10, peak_flops_per_s: float | None = None) -> None:
        self.log_every, self.peak_flops_per_s = log_every, peak_flops_per_s
        self.total, self.warm_up = Counts(), Counts()
        self._is_first_window = True
        self.rates: Rates | None = None
        self.window_ended = False
        self._counts: Tensor | None = None  # (examples, tokens, FLOPs) of this window on this rank
        self._started_at: float | None = None  # None: not measuring
        self._seconds_before = 0.0  # seconds of this window before a validation interrupted it

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: object, batch_idx: int
    ) -> None:
        if self._started_at is None:
            self._started_at = time.perf_counter()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        if not isinstance(pl_module, TaskModule):
            raise TypeError("Throughput needs a TaskModule")
        self._count(pl_module, batch)
        is_last = pl_module.is_over(trainer.global_step)
        is_step_to_log = (trainer.global_step % self.log_every == 0 or is_last) and not is_accumulating(trainer)
        self.window_ended = is_step_to_log or batch_idx + 1 >= trainer.num_training_batches
        if self.window_ended:
            self._end_window(trainer)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.pause()

    def pause(self) -> None:
        """Stop the clock until the next training step."""
        if self._started_at is not None:
            self._seconds_before += time.perf_counter() - self._started_at
        self._started_at = None

    def _count(self, module: TaskModule, batch: Any) -> None:
        """Add a batch's counts, without waiting for the device."""
        real = batch["example_ids"] >= 0
        tokens = (batch["padding_mask"].flatten(1).sum(1) * real).sum()
        counts = torch.stack([real.sum(), tokens]).double()
        flops = module.flops(batch)
        if flops.device == counts.device:
            counts = torch.cat([counts, flops.double()[None]])
        else:  # counted on the host
            counts = torch.cat([counts, counts.new_full((1,), float(flops))])
        self._counts = counts if self._counts is None else self._counts + counts

    def _end_window(self, trainer: pl.Trainer) -> None:
        assert self._counts is not None
        assert self._started_at is not None
        counts, self._counts = trainer.strategy.reduce(self._counts, reduce_op="sum"), None
        examples, tokens, flops = counts.tolist()  # waits for the device: only then is the clock right
        seconds = time.perf_counter() - self._started_at + self._seconds_before
        self._started_at, self._seconds_before = None, 0.0
        window = Counts(examples, tokens, flops, seconds)
        self.total += window
        if self._is_first_window:
            self.warm_up, self._is_first_window = self.warm_up + window, False
        peak = self.peak_flops_per_s
        mfu = flops / seconds / (peak * trainer.world_size) if peak else None
        self.rates = Rates(examples / seconds, tokens / seconds, flops / seconds, mfu)

    def totals(self, world_size: int) -> Counts:
        """Counts up to this batch. Those of the window that has not ended are this rank's times the number of ranks, since
        nothing is exchanged for them; reading them waits for the device."""
        examples, tokens, flops = (0.0, 0.0, 0.0) if self._counts is None else (self._counts * world_size).tolist()
        seconds = self._seconds_before
        if self._started_at is not None:
            seconds += time.perf_counter() - self._started_at
        return self.total + Counts(examples, tokens, flops, seconds)

    @property
    def seconds(self) -> float:
        """Seconds of training steps of the whole run."""
        return self.total.seconds

    @property
    def warm(self) -> Counts:
        rest = self.total - self.warm_up
        return rest if rest.seconds > 0 else self.total

    def state_dict(self) -> dict[str, Any]:
        return asdict(self.total) | {"warm_up": asdict(self.warm_up)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        counts = dict(state_dict)
        self.warm_up = Counts(**counts.pop("warm_up", {}))
        self.total = Counts(**counts)
