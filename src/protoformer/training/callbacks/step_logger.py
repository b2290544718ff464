"""StepLogger: metrics of training steps and their throughput, to the loggers."""

from collections.abc import Mapping
from dataclasses import asdict

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback

from protoformer.modules.task_module import TaskModule
from protoformer.training.callbacks.throughput import Throughput
from protoformer.training.measures.layers import WatchLayers
from protoformer.training.measures.spikes import Spikes


class StepLogger(Callback):
    """Logs the step's metrics with the rates of the window that ends with it, by optimizer step, and what `spikes` and `watch`
    have measured. Must be listed after all three.

    Writes at once, not by `LightningModule.log`: Lightning writes after the checkpoint callbacks, and a run that is stopped
    there would miss a line.
    """

    def __init__(self, throughput: Throughput, spikes: Spikes | None = None, watch: WatchLayers | None = None) -> None:
        self.throughput, self.spikes, self.watch = throughput, spikes, watch

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        if not self.throughput.window_ended or not isinstance(pl_module, TaskModule):
            return
        metrics = {} if pl_module.step_metrics is None else pl_module.step_metrics.named()
        if self.throughput.rates is not None:
            rates = asdict(self.throughput.rates)
            metrics |= {f"train/{name}": rate for name, rate in rates.items() if rate is not None}
        metrics |= self._measured()
        for logger in trainer.loggers:
            logger.log_metrics({**metrics, "epoch": trainer.current_epoch}, step=trainer.global_step)

    def _measured(self) -> Mapping[str, float]:
        spikes = {} if self.spikes is None else self.spikes.named()
        return spikes if self.watch is None else {**spikes, **self.watch.norms}
