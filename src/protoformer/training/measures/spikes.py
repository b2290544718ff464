"""Spikes: how often the loss and the gradient's norm leave their course (`spike_score`)."""

import math
from collections.abc import Iterable
from typing import Any

import lightning.pytorch as pl
import numpy as np
from lightning.pytorch.callbacks import Callback

from protoformer.modules.task_module import TaskModule
from protoformer.training.lightning_internals import is_accumulating

WINDOW = 1000  # values
DEVIATIONS = 7.0
FEWEST = 100  # values before the one that is scored, so that their deviation means something


class SpikeScore:
    """The percentage of values at least seven standard deviations away from the mean of the last 1,000 (arXiv 2501.00656).

    A value is held against those before it, from the 101st on. Values that are no numbers count nowhere.
    """

    def __init__(self) -> None:
        self.added, self.scored, self.spikes = 0, 0, 0
        self._last = np.zeros(WINDOW)  # a ring: the value number `added` goes where the one of a window before stands

    def add(self, value: float) -> None:
        if not math.isfinite(value):
            return
        if self.added >= FEWEST:
            before = self._last[: self.added]
            mean = before.mean()
            deviations = before - mean
            self.scored += 1
            self.spikes += bool((value - mean) ** 2 >= DEVIATIONS**2 * (deviations @ deviations) / len(before) > 0)
        self._last[self.added % WINDOW] = value
        self.added += 1

    @property
    def percent(self) -> float | None:
        """None: no value was scored."""
        return 100 * self.spikes / self.scored if self.scored else None

    def state_dict(self) -> dict[str, Any]:
        counts = {"added": self.added, "scored": self.scored, "spikes": self.spikes}
        return {**counts, "last": self._last[: self.added].tolist()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.added, self.scored, self.spikes = state["added"], state["scored"], state["spikes"]
        self._last[: self.added] = state["last"]


class Spikes(Callback):
    """The spike scores of `train/loss` and `train/grad_norm` over the optimizer steps of the whole run."""

    def __init__(self, names: Iterable[str] = ("loss", "grad_norm")) -> None:
        self.scores = {name: SpikeScore() for name in names}

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        metrics = pl_module.step_metrics if isinstance(pl_module, TaskModule) else None
        if metrics is None or is_accumulating(trainer):
            return
        for name, score in self.scores.items():
            score.add(getattr(metrics, name))

    @property
    def percent(self) -> dict[str, float]:
        """By name; of a run of at most 100 steps nothing."""
        return {name: score.percent for name, score in self.scores.items() if score.percent is not None}

    def named(self) -> dict[str, float]:
        """The names that are logged."""
        return {f"train/{name}_spike_score": percent for name, percent in self.percent.items()}

    def state_dict(self) -> dict[str, Any]:
        return {name: score.state_dict() for name, score in self.scores.items()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for name, score in self.scores.items():
            score.load_state_dict(state_dict[name])
