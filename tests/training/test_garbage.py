"""The garbage collector runs between steps and never in one, and is as before when the training has ended."""

import gc
from collections.abc import Iterator
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from protoformer.training.callbacks.garbage import CollectGarbage

pytestmark = pytest.mark.usefixtures("whole_runs")


class Line(pl.LightningModule):
    def __init__(self, fails_at: int | None = None) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1)
        self.fails_at, self.enabled, self.in_validation = fails_at, [], []

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        self.enabled.append(gc.isenabled())
        if self.global_step == self.fails_at:
            raise ValueError("a step that fails")
        return self.layer(batch).sum()

    def validation_step(self, batch: torch.Tensor, batch_idx: int) -> None:
        self.in_validation.append(gc.isenabled())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=1e-3)


@pytest.fixture
def collected() -> Iterator[list[int]]:
    """Generations of the collections that are asked for or that come by themselves."""
    seen: list[int] = []

    def record(phase: str, info: dict[str, Any]) -> None:
        if phase == "start":
            seen.append(info["generation"])

    gc.callbacks.append(record)
    yield seen
    gc.callbacks.remove(record)


def fit(module: pl.LightningModule, batches: int, every: int, epochs: int = 1) -> None:
    trainer = pl.Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        max_epochs=epochs,
        callbacks=[CollectGarbage(every)],
    )
    data: Any = torch.ones(batches, 1)
    trainer.fit(module, train_dataloaders=DataLoader(data), val_dataloaders=DataLoader(data[:1]))


def test_off_in_steps_and_on_elsewhere() -> None:
    module = Line()
    frozen = gc.get_freeze_count()
    fit(module, batches=12, every=100, epochs=2)
    assert module.enabled == [False] * 24
    assert module.in_validation == [True] * 2
    assert gc.isenabled()
    assert gc.get_freeze_count() <= frozen


def test_all_ranks_collect_after_the_same_steps(collected: list[int]) -> None:
    steps: list[int] = []

    class Recorded(Line):
        def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
            steps.append(len(collected))

    fit(Recorded(), batches=30, every=7)
    changed = [step for step in range(1, len(steps)) if steps[step] > steps[step - 1]]
    assert changed == [7, 10, 14, 21, 28]  # 10: after the first steps what the run has built is frozen


def test_a_training_that_fails_leaves_it_on() -> None:
    with pytest.raises(ValueError, match="a step that fails"):
        fit(Line(fails_at=15), batches=20, every=100)
    assert gc.isenabled()
    assert gc.get_freeze_count() == 0


def test_who_has_switched_it_off_finds_it_off() -> None:
    gc.disable()
    try:
        fit(Line(), batches=2, every=100)
        assert not gc.isenabled()
    finally:
        gc.enable()
