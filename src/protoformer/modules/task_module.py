"""What every task kind shares: a loss that is a sum, its global normalisation, the optimizer, the stop on NaN, evaluation.

A kind gives the *sum* of its losses and the number of targets. Gradients of the sums are added up over micro-batches and
ranks and divided by the number of targets once, before the clip; so k micro-batches of b, or k ranks, equal one batch of
k b, the last batch of an epoch included. A loss of several terms, each a mean over targets of its own, is brought to the
first one's targets by the counts of the whole step, which the loader foretells (`step_targets`).
"""

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple

import lightning.pytorch as pl
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim import Optimizer

from protoformer.errors import DivergedError
from protoformer.models.backbone import Backbone
from protoformer.models.cost import backbone_flops
from protoformer.models.hf.layout import HeadLayout
from protoformer.modules.evaluation import EvalOutputs, Evaluation, Stage, gather_examples
from protoformer.optim.build import build_lr_scheduler, build_optimizer
from protoformer.optim.optimization import Optimization
from protoformer.scoring.main_score import main_score


class Loss(NamedTuple):
    """The sum of the losses over the targets, and the number of targets; `running_metrics` are (sum, count) of what else is
    logged in training."""

    total: Tensor
    targets: Tensor
    running_metrics: Mapping[str, tuple[Tensor, Tensor]] = MappingProxyType({})


class TaskModule(pl.LightningModule):
    """Subclasses give `loss` for training, and `eval_step` and `evaluate` for the rest; batches hold `padding_mask` and
    `example_ids`.

    `splits` names each stage's loaders, in order; `references` holds, by stage and split, what an evaluation needs beside
    batches. After a validation or test epoch `outputs[stage][split]` is what it left behind.
    """

    splits: Mapping[Stage, Sequence[str]]
    backbone: Backbone
    head: nn.Module
    hf_head: ClassVar[HeadLayout | None] = None  # the head's names in `transformers`, where no layout knows the kind

    def __init__(self, optimization: Optimization | None) -> None:
        super().__init__()
        self.optimization = optimization
        # of the whole run, for the schedule; set before fit. Lightning's own estimate would open the loaders before a
        # checkpoint's loader state is read, and a continued run would see its epoch's first batches again
        self.total_steps: int | None = None
        self.references: Mapping[Stage, Mapping[str, Any]] = {}
        self.evaluations: dict[Stage, dict[str, Any]] = {}
        self._eval_outputs: dict[str, list[EvalOutputs]] = {}  # what was observed of each split on this rank
        self._step_targets: Tensor | None = None  # of this optimizer step, term by term, over all ranks
        self._step_running_metrics: dict[str, Tensor] = {}
        self.step_totals: Tensor | None = None  # loss, targets of this optimizer step on this rank
        self.step_metrics: dict[str, float | Tensor] = {}  # of the last optimizer step
        # examples, tokens, FLOPs since the last look (see training/throughput.py)
        self.seen = torch.zeros(3, dtype=torch.double)
        self.stop_wanted = 0  # the signal by which this rank was asked to stop
        self.stop_agreed = False  # by all ranks, at the same step
        self.stoppable = False  # training steps run, at whose end a wish to stop is granted

    def loss(self, batch: Any) -> Loss:
        raise NotImplementedError

    def dummy_batch(self, batch: int, seq: int) -> Any:
        """`batch` rows of `seq` tokens without content, on the default device: to foretell costs with."""
        raise NotImplementedError

    def flops(self, batch: Any) -> Tensor:
        """Operations of a training step on this batch, estimated; a small head counts as nothing."""
        return backbone_flops(self.backbone, batch["padding_mask"].sum(-1))

    def eval_step(self, batch: Any) -> EvalOutputs:
        """What of a batch its evaluation is made of, row by row: the ids of real examples first."""
        raise NotImplementedError

    def evaluate(self, stage: Stage, split: str, outputs: EvalOutputs) -> Evaluation:
        """The numbers of a split, from what was observed on all ranks, each example once and in order of id."""
        raise NotImplementedError

    def term_weights(self, batch: Any) -> Tensor:
        """By what each term's sum is to be multiplied so that all are means once divided by the first term's targets."""
        targets = batch["targets"] if self._step_targets is None else self._step_targets
        return targets[0].clamp(min=1) / targets.clamp(min=1).float()

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        if self.step_totals is None and "step_targets" in batch:
            self._step_targets = self.trainer.strategy.reduce(batch["step_targets"].double(), reduce_op="sum")
        loss = self.loss(batch)
        totals = torch.stack([loss.total.detach().double(), loss.targets.double()])
        self.step_totals = totals if self.step_totals is None else self.step_totals + totals
        for name, (total, count) in loss.running_metrics.items():
            sums = torch.stack([total.detach().double(), count.double()])
            self._step_running_metrics[name] = (
                self._step_running_metrics[name] + sums if name in self._step_running_metrics else sums
            )
        real = batch["example_ids"] >= 0
        tokens = batch["padding_mask"][real].sum()
        self.seen = self.seen.to(real.device) + torch.stack([real.sum(), tokens, self.flops(batch)])
        return loss.total

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Divide the gradients of the sums by the global number of targets, and clip, in one pass."""
        if self.step_totals is None or self.optimization is None:
            raise RuntimeError("an optimizer step without a training step")
        wish = self.step_totals.new_tensor([float(self.stop_wanted > 0)])
        told = torch.cat([self.step_totals, wish, *self._step_running_metrics.values()])
        total, targets, wishes, *running_metrics = self.trainer.strategy.reduce(told, reduce_op="sum").tolist()
        means = zip(self._step_running_metrics, running_metrics[::2], running_metrics[1::2], strict=True)
        self.step_totals, self.stop_agreed, self._step_running_metrics = None, wishes > 0, {}
        if not math.isfinite(total):
            raise DivergedError(
                f"the loss is {total} at step {self.trainer.global_step}; stopped before the weights were touched "
                "(a lower recipe.lr, or a longer recipe.warmup, is the usual cure)"
            )
        grads = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        # undone here: DDP averages over ranks, Lightning over micro-batches
        scale = self.trainer.world_size * self.trainer.accumulate_grad_batches / max(1.0, targets)
        norm = torch.nn.utils.get_total_norm(grads) * scale
        if not math.isfinite(float(norm)) and self.trainer.precision != "16-mixed":  # there the scaler skips such steps
            raise DivergedError(
                f"the gradient's norm is {float(norm)} at step {self.trainer.global_step}; stopped before the weights were "
                "touched (a lower recipe.lr, or a longer recipe.warmup, is the usual cure)"
            )
        coefficient = torch.full_like(norm, scale)
        if self.optimization.clip is not None:
            coefficient = scale * (self.optimization.clip / (norm + 1e-6)).clamp(max=1.0)
        torch._foreach_mul_(grads, coefficient)
        self.step_metrics = {
            "train/loss": total / max(1.0, targets),
            **{f"train/{name}": total / max(1.0, count) for name, total, count in means},
            "train/grad_norm": norm,
            "train/lr": float(optimizer.param_groups[0]["lr"]),
        }

    def configure_optimizers(self) -> OptimizerLRScheduler:
        options = self.optimization
        if options is None or self.total_steps is None:
            raise RuntimeError("this module has no recipe or no total_steps: it can be evaluated, not trained")
        optimizer = build_optimizer(self.parameters(), options)
        scheduler = build_lr_scheduler(optimizer, options, total_steps=self.total_steps, d_model=self.backbone.d_model)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        self._eval_step(self.splits["val"][dataloader_idx], batch)

    def test_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        self._eval_step(self.splits["test"][dataloader_idx], batch)

    def _eval_step(self, split: str, batch: Any) -> None:
        self._eval_outputs.setdefault(split, []).append(tuple(column.cpu() for column in self.eval_step(batch)))

    def on_validation_epoch_end(self) -> None:
        self._evaluate("val")

    def on_test_epoch_end(self) -> None:
        self._evaluate("test")

    def _evaluate(self, stage: Stage) -> None:
        """Evaluate every split and log `<stage>/<split>/<metric>` and `<stage>/score`."""
        self.evaluations[stage] = {}
        numbers: dict[str, float] = {}
        main: dict[str, float] = {}
        for split in self.splits[stage]:
            prefix = f"{stage}/{split}/" if split else f"{stage}/"
            outputs = gather_examples(self._eval_outputs.get(split, []), self.trainer.world_size)
            found = self.evaluations[stage][split] = self.evaluate(stage, split, outputs)
            numbers |= {prefix + name: value for name, value in found.other_metrics.items()}
            main |= {prefix + name: value for name, value in found.scores.items()}
        self._eval_outputs = {}
        numbers = main | numbers
        if main:
            numbers[f"{stage}/score"] = main_score(main)
        fitting = self.trainer.state.fn == "fit"  # the last look at the best checkpoint is no point of a curve
        place = {"step": float(self.trainer.global_step), "epoch": float(self.trainer.current_epoch)}
        # every rank has the same numbers already; Lightning wants it said
        self.log_dict({**numbers, **place}, batch_size=1, logger=fitting, sync_dist=True)
