"""RecordDataMap: the probability of each training example's label after every epoch (`views.data_map`).

Dataset cartography (Swayamdipta et al. 2020, arXiv 2009.10795, section 2) takes the probabilities that the model gives the
labels at the end of each epoch. They are computed here by an evaluation of the training split, without dropout.

Differs: the paper's code keeps the logits of the training steps instead. That costs nothing, but depends on the draws of
dropout, and so on ranks and micro-batches, and the weights are other ones for each batch.
"""

import logging
import math
import time
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from protoformer.data.datamodules.table import TableDataModule
from protoformer.distributed.sharding.units import full_weights
from protoformer.modules.evaluation import EvalOutputs, gather_examples
from protoformer.modules.task_module import TaskModule
from protoformer.training.callbacks.throughput import Throughput
from protoformer.training.lightning_internals import is_accumulating
from protoformer.training.measures.unchanged import unchanged

log = logging.getLogger(__name__)


def _steps_per_epoch(trainer: pl.Trainer) -> int:
    return max(1, math.ceil(trainer.num_training_batches / trainer.accumulate_grad_batches))


class RecordDataMap(Callback):
    """Evaluates the training split after each epoch and after the last step; every rank keeps all of it. Nothing of the
    training changes: weights, modes, random states and the clock of the throughput are as before.

    It must be listed before SaveLastCheckpoint, whose checkpoints hold what is recorded so far. A stop that is requested
    meanwhile is granted at this step, whose probabilities follow when the run continues.
    """

    def __init__(self, data: TableDataModule[Any], throughput: Throughput) -> None:
        self.data, self.throughput = data, throughput
        self.steps: list[int] = []
        self.ids: Tensor | None = None  # (examples): their rows in the file
        self.probabilities: list[Tensor] = []  # of each step (examples), in single precision
        self.predictions: list[Tensor] = []  # of each step (examples): the most probable label

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.global_step:
            self._record_if_due(trainer, pl_module)
        epochs = range(_steps_per_epoch(trainer), trainer.global_step, _steps_per_epoch(trainer))
        if (missing := len(set(epochs) - set(self.steps))) and trainer.is_global_zero:
            log.warning(
                "views.data_map: %d epochs of this run were trained without it and are not in the map; force=true begins anew",
                missing,
            )

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        if not is_accumulating(trainer):
            self._record_if_due(trainer, pl_module)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """A run that is stopped early may end within an epoch."""
        if trainer.global_step:
            self._record_if_due(trainer, pl_module, is_end=True)

    def state_dict(self) -> dict[str, Any]:
        return {
            "steps": list(self.steps),
            "ids": self.ids,
            "probabilities": list(self.probabilities),
            "predictions": list(self.predictions),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.steps, self.ids = list(state_dict["steps"]), state_dict["ids"]
        self.probabilities, self.predictions = list(state_dict["probabilities"]), list(state_dict["predictions"])

    def _record_if_due(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *, is_end: bool = False) -> None:
        assert isinstance(pl_module, TaskModule)
        is_last = is_end or pl_module.is_over(trainer.global_step)
        is_due = is_last or trainer.global_step % _steps_per_epoch(trainer) == 0
        if not is_due or trainer.global_step in self.steps:
            return
        started_at = time.monotonic()
        self.throughput.pause()
        outputs = self._evaluate(trainer, pl_module, to_the_end=is_last)
        if outputs is None:
            return
        self.ids, logits, labels = outputs
        probs = logits.double().softmax(-1)
        self.probabilities.append(probs.gather(1, labels[:, None])[:, 0].float())
        self.predictions.append(probs.argmax(-1))
        self.steps.append(trainer.global_step)
        seconds = time.monotonic() - started_at
        log.info("step %d: data map of %d training examples (%.1f s)", trainer.global_step, len(labels), seconds)

    def _evaluate(self, trainer: pl.Trainer, module: TaskModule, *, to_the_end: bool) -> EvalOutputs | None:
        """Ids, logits and labels of all training examples, the same on every rank; None where a rank was asked to stop.
        `to_the_end` leaves a stop for later: a run that continues after its last step does not train, and records nothing."""
        outputs: list[EvalOutputs] = []
        with (
            full_weights(module),
            unchanged(module),
            torch.no_grad(),
            trainer.precision_plugin.forward_context(),
        ):
            for batch in self.data.ordered_train_dataloader():
                if module.stop.requested and not to_the_end:
                    break
                values = module.eval_step(trainer.strategy.batch_to_device(batch))
                outputs.append(tuple(tensor.cpu() for tensor in values))
        if to_the_end:
            return gather_examples(outputs, trainer.world_size)
        stopped = torch.tensor(float(module.stop.requested), device=module.device)
        if float(trainer.strategy.reduce(stopped, reduce_op="sum")):
            module.stop.agree(True)
            return None
        return gather_examples(outputs, trainer.world_size)
