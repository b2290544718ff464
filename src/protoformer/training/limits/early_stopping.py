"""Early stopping by the dev score (`recipe.early_stopping`)."""

import logging

import lightning.pytorch as pl
from lightning.pytorch.callbacks import EarlyStopping

log = logging.getLogger(__name__)


class StopEarly(EarlyStopping):
    """Lightning's, on `val/score`, after validations alone. A run that is continued after it had stopped trains no further.

    `min_delta` is in points, 0 to 100, as scores are printed.
    """

    def __init__(self, patience: int, min_delta: float) -> None:
        super().__init__(
            "val/score", mode="max", patience=patience, min_delta=min_delta / 100, check_on_train_epoch_end=False
        )

    @property
    def has_stopped(self) -> bool:
        """Whether it has ended the training."""
        return self.wait_count >= self.patience

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.has_stopped:
            trainer.should_stop = True

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        had_stopped = self.has_stopped
        super().on_validation_end(trainer, pl_module)
        if trainer.is_global_zero and self.has_stopped and not had_stopped:
            log.info(
                "stopped early at step %d: no dev score above %.2f in the last %s (recipe.early_stopping)",
                trainer.global_step,
                100 * float(self.best_score),
                "validation" if self.wait_count == 1 else f"{self.wait_count} validations",
            )
