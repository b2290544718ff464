"""Throughput: examples, tokens and FLOPs a second over all ranks; the wait for data; padding that is computed."""

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
    fraction of the devices' peak that the model's own operations reach (None: the peak is not known).

    `data_wait` is the fraction of the time in which the training loop waits for its next batch, the mean of the ranks;
    `packing_efficiency` the fraction of the positions that layers compute which holds a real token.
    """

    examples_per_s: float
    tokens_per_s: float
    flops_per_s: float
    mfu: float | None
    data_wait: float
    packing_efficiency: float | None


@dataclass(frozen=True)
class Counts:
    """What was processed, over all ranks, in so many seconds.

    `tokens` are those of the inputs; `real_positions` are the real tokens of inputs and of an encoder-decoder's targets, out of
    `positions` that were computed. Of the seconds `waited`, the mean of the ranks, passed before a batch was there.
    """

    examples: float = 0.0
    tokens: float = 0.0
    real_positions: float = 0.0
    positions: float = 0.0
    flops: float = 0.0
    waited: float = 0.0
    seconds: float = 0.0

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))

    def __sub__(self, other: "Counts") -> "Counts":
        return Counts(*(a - b for a, b in zip(astuple(self), astuple(other), strict=True)))

    def rates(self, peak_flops_per_s: float | None) -> Rates | None:
        """Per second; `peak_flops_per_s` is that of all devices together. None where no time has passed."""
        if self.seconds <= 0:
            return None
        flops_per_s = self.flops / self.seconds
        return Rates(
            self.examples / self.seconds,
            self.tokens / self.seconds,
            flops_per_s,
            mfu=flops_per_s / peak_flops_per_s if peak_flops_per_s else None,
            data_wait=self.waited / self.seconds,
            packing_efficiency=self.real_positions / self.positions if self.positions else None,
        )


class Throughput(Callback):
    """Measures windows of `log_every` optimizer steps (the last of an epoch or run may be shorter): training steps and the
    wait for their batches, no validation, no checkpoint. `peak_flops_per_s` is the peak of one rank's device, for `mfu`.

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
        self._counts: Tensor | None = None  # of this window on this rank: the fields of Counts up to `flops`
        self._waited, self._loader_waited = 0.0, 0.0  # of this window; of the loader, up to its last batch
        self._started_at: float | None = None  # None: not measuring
        self._seconds_before = 0.0  # seconds of this window before a validation interrupted it

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: object, batch_idx: int
    ) -> None:
        before, self._loader_waited = self._loader_waited, getattr(trainer.train_dataloader, "seconds_waited", 0.0)
        self._waited += self._loader_waited - before
        if self._started_at is None:  # as if it had begun with the wait for this batch
            self._seconds_before += self._loader_waited - before
            self._started_at = time.perf_counter()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        if not isinstance(pl_module, TaskModule):
            raise TypeError("Throughput needs a TaskModule")
        counts = count(pl_module, batch)
        self._counts = counts if self._counts is None else self._counts + counts
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

    def _end_window(self, trainer: pl.Trainer) -> None:
        assert self._counts is not None
        assert self._started_at is not None
        waited = self._counts.new_full((1,), self._waited / trainer.world_size)
        sums = trainer.strategy.reduce(torch.cat([self._counts, waited]), reduce_op="sum")
        values = sums.tolist()  # waits for the device: only then is the clock right
        seconds = time.perf_counter() - self._started_at + self._seconds_before
        self._counts, self._waited = None, 0.0
        self._started_at, self._seconds_before = None, 0.0
        window = Counts(*values, seconds=seconds)
        self.total += window
        if self._is_first_window:
            self.warm_up, self._is_first_window = self.warm_up + window, False
        self.rates = window.rates(self.peak(trainer.world_size))

    def peak(self, world_size: int) -> float | None:
        """Peak FLOP/s of all devices together (None: not known)."""
        return self.peak_flops_per_s and self.peak_flops_per_s * world_size

    def totals(self, world_size: int) -> Counts:
        """Counts up to this batch. Those of the window that has not ended are this rank's times the number of ranks, since
        nothing is exchanged for them; reading them waits for the device."""
        values = Counts() if self._counts is None else Counts(*(self._counts * world_size).tolist())
        seconds = self._seconds_before
        if self._started_at is not None:
            seconds += time.perf_counter() - self._started_at
        return self.total + values + Counts(waited=self._waited, seconds=seconds)

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


def count(module: TaskModule[Any, Any], batch: Any) -> Tensor:
    """A batch's counts on its device, without waiting for it: the fields of Counts up to `flops`, in float64."""
    is_real = batch["example_ids"] >= 0
    masks = [batch[name] for name in ("padding_mask", "decoder_mask") if name in batch]
    rows = [mask.flatten(1).sum(1) for mask in masks]  # real tokens of each row
    real = torch.stack([(tokens * is_real).sum() for tokens in rows])
    sums = torch.stack([is_real.sum(), real[0], real.sum()]).double()
    if getattr(module.backbone, "packing", "off") == "off":
        positions = sums.new_full((1,), sum(mask.numel() for mask in masks))
    else:  # packed: real tokens alone, with those of rows that only fill a batch up
        positions = torch.stack(rows).sum().double()[None]
    flops = module.flops(batch)
    on_host = flops.device != sums.device
    return torch.cat([sums, positions, sums.new_full((1,), float(flops)) if on_host else flops.double()[None]])
