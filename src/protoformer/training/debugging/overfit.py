"""Overfit one batch (`debug=overfit`): the first batch again and again, until its loss is near 0.

A model, a loss and a data set that go together learn one batch by heart. Dropout is off, and the learning rate is the peak of
the recipe's schedule from the first step on.
"""

import logging
from collections.abc import Iterator
from itertools import islice
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback
from torch import nn

from protoformer.data.batching.host_counts import WithHostCounts
from protoformer.data.batching.loader import BatchLoader
from protoformer.data.batching.samplers import BatchConfig
from protoformer.data.datamodules.table import TableDataModule
from protoformer.errors import NotOverfittedError
from protoformer.modules.task_module import TaskModule
from protoformer.training.lightning_internals import is_accumulating

log = logging.getLogger(__name__)


class FirstBatchSampler:
    """Micro-batches of this rank in the first global batch of another sampler, in each of `steps` steps."""

    def __init__(self, sampler: Any, steps: int) -> None:
        self.sampler, self.steps = sampler, steps
        self.config: BatchConfig = sampler.config
        self.epoch = 0
        self.position = 0  # micro-batches to skip

    def __len__(self) -> int:
        return self.steps * self.config.accumulation

    def __iter__(self) -> Iterator[list[int]]:
        micro_batches = list(islice(self.sampler, self.config.accumulation))
        for index in range(self.position, len(self)):
            yield micro_batches[index % len(micro_batches)]


def repeat_first_batch(data: TableDataModule[Any], steps: int) -> None:
    """Let the training batches of `data` be `steps` times the first one."""
    loader_of = data.train_dataloader

    def train_dataloader() -> BatchLoader:
        loader = loader_of()
        assert isinstance(loader, BatchLoader)
        collate = loader.collate_fn
        inner = collate.collate if isinstance(collate, WithHostCounts) else collate
        sampler: Any = FirstBatchSampler(loader.micro_batches, steps)
        return BatchLoader(sampler, inner, loader.num_workers)

    data.train_dataloader = train_dataloader  # type: ignore[method-assign]  # of this object alone


class OverfitBatch(Callback):
    """Ends the training in the step whose loss is at most `target`; `check` raises where none was. All ranks have one loss.

    Must be listed before SaveLastCheckpoint.
    """

    def __init__(self, target: float) -> None:
        self.target = target
        self.losses: list[float] = []  # the first one, and the last one
        self.step = 0

    @property
    def has_reached(self) -> bool:
        return bool(self.losses) and self.losses[-1] <= self.target

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.has_reached:
            trainer.should_stop = True
        dropout_off(pl_module)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: object, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, TaskModule)
        for group in trainer.optimizers[0].param_groups:
            group["lr"] = peak_rate(pl_module)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        if is_accumulating(trainer):
            return
        assert isinstance(pl_module, TaskModule)
        assert pl_module.step_metrics is not None
        self.losses, self.step = [*self.losses[:1], pl_module.step_metrics.loss], trainer.global_step
        if self.has_reached:
            trainer.should_stop = True

    def check(self, is_main: bool) -> None:
        """Say how far the loss fell; raises NotOverfittedError where it is not near 0."""
        fell = f"the loss of one batch went from {self.losses[0]:.4g} to {self.losses[-1]:.4g} in {self.step:,} steps"
        if not self.has_reached:
            raise NotOverfittedError(
                f"debug=overfit: {fell}, and not below {self.target:g} (trainer.overfit): another recipe.lr, more steps "
                "(trainer.max_steps), or a mistake in model, loss or labels"
            )
        if is_main:
            log.info("debug=overfit: %s, below %g", fell, self.target)

    def state_dict(self) -> dict[str, Any]:
        return {"losses": self.losses, "step": self.step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.losses, self.step = state_dict["losses"], state_dict["step"]


def dropout_off(module: nn.Module) -> None:
    """Set all dropout rates of a module to 0: of layers of their own (`p`), and of attention and recurrences (`dropout`)."""
    for part in module.modules():
        if "dropout" in type(part).__name__.lower() and isinstance(getattr(part, "p", None), float):
            part.p = 0.0  # type: ignore[assignment]  # of any class
        if isinstance(getattr(part, "dropout", None), float):
            part.dropout = 0.0  # type: ignore[assignment]


def peak_rate(module: TaskModule) -> float:
    """The highest rate of the recipe's schedule: `lr`, which "noam" multiplies by d_model^-0.5 and warmup^-0.5."""
    options = module.optimization
    assert options is not None
    if options.schedule != "noam":
        return options.lr
    return options.lr * float(module.backbone.d_model * max(1.0, options.warmup)) ** -0.5
