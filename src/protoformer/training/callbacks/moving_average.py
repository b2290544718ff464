"""WeightAverage: an exponential moving average of the weights (`recipe.ema`), which is evaluated and kept in their place.

After optimizer step t the average is `d * average + (1 - d) * weights`, with d = min(decay, (1 + t) / (10 + t)), so that a
short run is not the average of its initial weights: the rule of TensorFlow's ExponentialMovingAverage. Averages of the
iterates of stochastic gradient descent go back to Polyak and Juditsky (1992); for deep networks see arXiv 2411.18704.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from protoformer.training.lightning_internals import is_accumulating


class WeightAverage(Callback):
    """Keeps the average on the weights' device. Validations of a fit, and `best.ckpt`, are of the average; the training goes on
    from the weights, and `last.ckpt` holds both. It must be listed before Checkpoint callbacks, as Lightning does."""

    def __init__(self, decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self._average: list[Tensor] = []  # one for each parameter; while the average is applied, the weights
        self._parameters: list[torch.nn.Parameter] = []
        self._is_applied = False

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self._parameters = list(pl_module.parameters())

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not self._average:
            self._average = [parameter.detach().clone() for parameter in self._parameters]
        pairs = zip(self._average, self._parameters, strict=True)
        self._average = [average.to(parameter.device) for average, parameter in pairs]

    @torch.no_grad()
    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        if is_accumulating(trainer):
            return
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        torch._foreach_lerp_(self._average, [p.detach() for p in self._parameters], 1 - decay)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.state.fn == "fit":
            self._apply()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.withdraw()

    def withdraw(self) -> None:
        """Put the weights back, where the average is in their place."""
        if self._is_applied:
            self._exchange()
            self._is_applied = False

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Within the block the module's weights are the average."""
        self._apply()
        yield
        self.withdraw()

    def _apply(self) -> None:
        if not self._is_applied:
            self._exchange()
            self._is_applied = True

    @torch.no_grad()
    def _exchange(self) -> None:
        for average, parameter in zip(self._average, self._parameters, strict=True):
            weights = parameter.detach().clone()
            parameter.copy_(average)
            average.copy_(weights)

    def state_dict(self) -> dict[str, Any]:
        """Asked for while the weights are in their place alone: SaveLastCheckpoint sees to it."""
        return {"updates": self.updates, "average": self._average}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.updates, self._average = state_dict["updates"], list(state_dict["average"])
