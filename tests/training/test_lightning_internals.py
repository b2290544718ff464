"""Lightning's private members mean what `lightning_internals` relies on. A failure here after an upgrade names what changed."""

import signal
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from torch import Tensor, nn

from protoformer.training import lightning_internals


class Line(pl.LightningModule):
    """y = w x, with a validation."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1)

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        return self.layer(batch).sum()

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        self.layer(batch)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=1e-3)


class Record(pl.Callback):
    """What the functions say after each micro-batch."""

    def __init__(self) -> None:
        self.accumulating: list[bool] = []
        self.validation_or_end: list[bool] = []
        self.checkpoint: dict[str, Any] = {}
        self.handler: Any = None

    def on_train_batch_end(self, trainer: pl.Trainer, *rest: Any) -> None:
        self.accumulating.append(lightning_internals.is_accumulating(trainer))
        self.validation_or_end.append(lightning_internals.validation_or_end_follows(trainer))
        self.handler = signal.getsignal(signal.SIGTERM)

    def on_save_checkpoint(self, trainer: pl.Trainer, module: pl.LightningModule, checkpoint: dict[str, Any]) -> None:
        self.checkpoint = checkpoint


def fit(record: Record, *, batches: int, keep_handlers: bool = False, **settings: Any) -> pl.Trainer:
    trainer = pl.Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        max_epochs=1,
        callbacks=[record],
        **settings,
    )
    if keep_handlers:
        lightning_internals.keep_own_signal_handlers(trainer)
    loader = torch.utils.data.DataLoader(torch.ones(batches, 1))  # type: ignore[arg-type]
    trainer.fit(Line(), loader, loader)
    return trainer


def test_is_accumulating_until_the_last_micro_batch_of_a_step_and_of_an_epoch() -> None:
    record = Record()
    trainer = fit(record, batches=5, accumulate_grad_batches=2)
    assert record.accumulating == [True, False, True, False, False]  # the last step has one micro-batch alone
    assert trainer.global_step == 3


def test_validation_or_end_follows_the_batches_before_a_validation() -> None:
    record = Record()
    fit(record, batches=5, val_check_interval=2)
    assert record.validation_or_end == [False, True, False, True, True]


@pytest.mark.parametrize(("batches", "before", "now"), [(4, 2, 1), (6, 3, 2), (6, 1, 3)])
def test_rescaled_progress_is_that_of_a_run_with_other_micro_batches(
    tmp_path: Any, batches: int, before: int, now: int
) -> None:
    record, expected = Record(), Record()
    fit(record, batches=batches, accumulate_grad_batches=before).save_checkpoint(tmp_path / "a.ckpt")
    fit(expected, batches=batches // before * now, accumulate_grad_batches=now).save_checkpoint(tmp_path / "b.ckpt")
    lightning_internals.rescale_batch_progress(record.checkpoint, before, now)
    progress, wanted = (
        each.checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"] for each in (record, expected)
    )
    assert progress == wanted
    assert progress["total"]["ready"] == batches // before * now


def test_own_signal_handlers_stay_while_the_trainer_fits() -> None:
    """Lightning installs one for TERM where nobody else has; a handler of ours is chained, or replaced."""
    before = signal.getsignal(signal.SIGTERM)

    def own(number: int, frame: Any) -> None:
        raise AssertionError("not sent")

    signal.signal(signal.SIGTERM, own)
    try:
        kept, replaced = Record(), Record()
        fit(kept, batches=1, keep_handlers=True)
        fit(replaced, batches=1)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert kept.handler is own
    assert replaced.handler is not own  # else there is nothing to be kept from
