"""FreezeGarbage: after the first steps Python's garbage collector leaves alone what a run has built."""

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback

from protoformer.distributed import memory

AFTER_BATCHES = 10  # by then optimizer states, loaders and compiled functions exist


class FreezeGarbage(Callback):
    """For GPUs: a full collection over a model's objects pauses the host, on each rank at another time, and all ranks wait.

    `memory.release` undoes it between the jobs of a sweep.
    """

    def __init__(self) -> None:
        self.batches = 0  # of this process

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        self.batches += 1
        if self.batches == AFTER_BATCHES:
            memory.freeze()
