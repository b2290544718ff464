"""StopInEvaluation: safe places for a stop after training."""

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback

from protoformer.distributed.signals import StopRequest


class StopInEvaluation(Callback):
    """Ends the run before an evaluation batch where a stop was requested. While a fit validates, the steps before are saved
    first, by SaveLastCheckpoint."""

    def __init__(self, stop: StopRequest) -> None:
        self.stop = stop

    def on_validation_batch_start(self, trainer: pl.Trainer, *args: object, **kwargs: object) -> None:
        if trainer.state.fn != "fit":
            self.stop.check()

    def on_test_batch_start(self, *args: object, **kwargs: object) -> None:
        self.stop.check()
