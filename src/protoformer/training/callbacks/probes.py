"""ScoreProbes: scores of evaluation tasks while a model is trained (`task.probes`)."""

import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback

from protoformer.assembly.probes import FITTED_TO, STAGE, Probe
from protoformer.distributed.sharding.units import full_weights
from protoformer.modules.evaluation import EvalOutputs, Evaluation, gather_examples
from protoformer.modules.task_module import TaskModule
from protoformer.training.callbacks.throughput import Throughput
from protoformer.training.lightning_internals import is_accumulating
from protoformer.training.measures.unchanged import unchanged

log = logging.getLogger(__name__)


class ScoreProbes(Callback):
    """Scores `probes` before the first step, every `every_n_steps` optimizer steps and after the last one, and logs
    `probe/<task>/<metric>`. Nothing of the training changes: weights, modes, random states and the clock of the throughput are
    as before.

    It must be listed before SaveLastCheckpoint: a checkpoint says at which step the last scores are (`scored_at_step`), so that
    a run that continues from it has those of each step once. A stop that is requested meanwhile is granted at this step, whose
    scores follow when the run continues.
    """

    def __init__(self, probes: Sequence[Probe], every_n_steps: int, throughput: Throughput) -> None:
        self.probes, self.every_n_steps, self.throughput = probes, every_n_steps, throughput
        self.scored_at_step = -1
        self.main_metrics: dict[str, str] = {}  # of each probe, as it is logged

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        is_last = isinstance(pl_module, TaskModule) and trainer.global_step == pl_module.total_steps
        if trainer.global_step % self.every_n_steps == 0 or is_last:
            self._score(trainer, pl_module)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        if is_accumulating(trainer):
            return
        is_last = isinstance(pl_module, TaskModule) and pl_module.is_over(trainer.global_step)
        if trainer.global_step % self.every_n_steps == 0 or is_last:
            self._score(trainer, pl_module)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """A run that is stopped early may end between two scores."""
        self._score(trainer, pl_module)

    def state_dict(self) -> dict[str, Any]:
        return {"scored_at_step": self.scored_at_step, "main_metrics": self.main_metrics}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.scored_at_step, self.main_metrics = state_dict["scored_at_step"], state_dict["main_metrics"]

    def _score(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.scored_at_step == trainer.global_step:
            return
        assert isinstance(pl_module, TaskModule)
        self.throughput.pause()
        metrics: dict[str, float] = {}
        # a probe's batches are not the same number on each rank, so each computes with all weights
        with full_weights(pl_module), unchanged(pl_module.backbone):
            for probe in self.probes:
                started_at = time.monotonic()
                evaluations = self._evaluate(probe, trainer, pl_module)
                if evaluations is None:
                    return
                metrics |= self._metrics(probe, evaluations, trainer.global_step, time.monotonic() - started_at)
        self.scored_at_step = trainer.global_step
        for logger in trainer.loggers:
            logger.log_metrics({**metrics, "epoch": trainer.current_epoch}, step=trainer.global_step)

    def _evaluate(self, probe: Probe, trainer: pl.Trainer, training: TaskModule) -> dict[str, Evaluation] | None:
        """The evaluation of each split, the same on every rank; None where a rank was asked to stop meanwhile."""
        module = probe.module.to(training.device)
        outputs: dict[str, list[EvalOutputs]] = {}
        with (
            torch.no_grad(),
            trainer.precision_plugin.forward_context(),
        ):  # not inference mode: what is cached stays trainable
            for split, batch in probe.batches():
                if training.stop.requested:
                    break
                on_device = trainer.strategy.batch_to_device(batch)
                values = module.eval_step(on_device) if probe.linear is None else probe.linear.features(on_device)
                outputs.setdefault(split, []).append(tuple(tensor.cpu() for tensor in values))
        stopped = torch.tensor(float(training.stop.requested), device=training.device)
        if float(trainer.strategy.reduce(stopped, reduce_op="sum")):
            training.stop.agree(True)
            return None
        gathered = {split: gather_examples(of_split, trainer.world_size) for split, of_split in outputs.items()}
        if probe.linear is not None:
            fitted_to = gathered.pop(FITTED_TO)
            predicted = probe.linear.fit_and_predict(fitted_to, list(gathered.values()))
            gathered = dict(zip(gathered, predicted, strict=True))
        return {split: probe.module.evaluate(STAGE, split, values) for split, values in gathered.items()}

    def _metrics(
        self, probe: Probe, evaluations: Mapping[str, Evaluation], step: int, seconds: float
    ) -> dict[str, float]:
        """All metrics by their logged names; says the main ones."""
        metrics: dict[str, float] = {}
        shown = []
        for split, evaluation in evaluations.items():
            prefix = f"probe/{probe.name}/{split}/" if split else f"probe/{probe.name}/"
            metrics |= {prefix + name: value for name, value in evaluation.other_metrics.items()}
            metrics |= {prefix + name: value for name, value in evaluation.scores.items()}
            for name, value in evaluation.scores.items():
                shown.append(f"{split} {name} {value:.4g}".lstrip())
                self.main_metrics.setdefault(probe.name, prefix + name)
        log.info("step %d: probe %s: %s (%.1f s)", step, probe.name, ", ".join(shown) or "no labels", seconds)
        return metrics
