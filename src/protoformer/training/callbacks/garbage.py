"""CollectGarbage: Python's garbage collector runs between training steps, never in one."""

import gc

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback

from protoformer.distributed import memory
from protoformer.training.lightning_internals import is_accumulating

AFTER_BATCHES = 10  # by then optimizer states, loaders and compiled functions exist


class CollectGarbage(Callback):
    """A collection pauses the host, on each rank at another time, and all ranks wait. So it is off within training steps, and
    runs on all ranks after the same ones: every `every_n_steps` optimizer steps. After the first steps it leaves alone what the
    run has built.

    It is on as before in validations, between epochs, and after the training, also after one that failed.
    """

    def __init__(self, every_n_steps: int = 100) -> None:
        self.every_n_steps = every_n_steps
        self.batches = 0  # of this process
        self._is_off = False  # by this callback

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: object, batch_idx: int
    ) -> None:
        if gc.isenabled():
            gc.disable()
            self._is_off = True

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        self.batches += 1
        if self.batches == AFTER_BATCHES:
            memory.freeze()
        elif not is_accumulating(trainer) and trainer.global_step % self.every_n_steps == 0:
            gc.collect()

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._switch_on()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._switch_on()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self._end()

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self._end()

    def _switch_on(self) -> None:
        if self._is_off:
            gc.enable()
            self._is_off = False

    def _end(self) -> None:
        self._switch_on()
        if self.batches >= AFTER_BATCHES:
            gc.unfreeze()
