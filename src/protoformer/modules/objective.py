"""What every task kind shares: a loss that is a sum, its global normalisation, the optimizer, and the stop on NaN.

A kind gives the *sum* of its losses and the number of targets. Gradients of the sums are added up over micro-batches and
ranks and divided by the number of targets once, before the clip; so k micro-batches of b, or k ranks, equal one batch of
k b, the last batch of an epoch included.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import lightning.pytorch as pl
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from protoformer.errors import DivergedError
from protoformer.optim.adamw import adamw
from protoformer.optim.groups import decay_groups
from protoformer.optim.schedules import Schedule, factor, warmup_steps


@dataclass(frozen=True)
class Optimization:
    """How weights are fitted (a recipe without its batches)."""

    lr: float
    warmup: float = 0.0
    schedule: Schedule = "linear"
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-6
    bias_correction: bool = True
    clip: float | None = 1.0


class Loss(NamedTuple):
    """Summed over targets, and how many there were."""

    total: Tensor
    targets: Tensor


class ObjectiveModule(pl.LightningModule):
    """Subclasses give `loss(batch)`; batches hold `padding_mask` and `example_ids`. `splits` names each stage's loaders."""

    splits: Mapping[Any, Sequence[str]]

    def __init__(self, optimization: Optimization | None) -> None:
        super().__init__()
        self.optimization = optimization
        # of the whole run, for the schedule; set before fit. Lightning's own estimate would open the loaders before a
        # checkpoint's loader state is read, and a continued run would see its epoch's first batches again
        self.total_steps: int | None = None
        self.step_totals: Tensor | None = None  # loss, targets of this optimizer step on this rank
        self.step_metrics: dict[str, float | Tensor] = {}  # of the last optimizer step
        self.seen = torch.zeros(2, dtype=torch.long)  # examples, tokens since the last look (see runtime's throughput)
        self.stop_wanted = 0  # the signal by which this rank was asked to stop
        self.stop_agreed = False  # by all ranks, at the same step
        self.stoppable = False  # training steps run, at whose end a wish to stop is granted

    def loss(self, batch: Any) -> Loss:
        raise NotImplementedError

    def blank_batch(self, batch: int, seq: int) -> Any:
        """`batch` rows of `seq` tokens without content, on the default device: to foretell costs with."""
        raise NotImplementedError

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss = self.loss(batch)
        totals = torch.stack([loss.total.detach().double(), loss.targets.double()])
        self.step_totals = totals if self.step_totals is None else self.step_totals + totals
        real = batch["example_ids"] >= 0
        self.seen = self.seen.to(real.device) + torch.stack([real.sum(), batch["padding_mask"][real].sum()])
        return loss.total

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Divide the gradients of the sums by the global number of targets, and clip, in one pass."""
        if self.step_totals is None or self.optimization is None:
            raise RuntimeError("an optimizer step without a training step")
        wish = self.step_totals.new_tensor([float(self.stop_wanted > 0)])
        totals = self.trainer.strategy.reduce(torch.cat([self.step_totals, wish]), reduce_op="sum")
        total, targets, wishes = totals.tolist()
        self.step_totals, self.stop_agreed = None, wishes > 0
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
            "train/grad_norm": norm,
            "train/lr": float(optimizer.param_groups[0]["lr"]),
        }

    def configure_optimizers(self) -> OptimizerLRScheduler:
        options = self.optimization
        if options is None or self.total_steps is None:
            raise RuntimeError("this module has no recipe or no total_steps: it can be evaluated, not trained")
        groups = decay_groups(self.parameters(), options.weight_decay)
        optimizer = adamw(groups, options.lr, options.betas, options.eps, options.bias_correction)
        schedule = factor(options.schedule, warmup_steps(options.warmup, self.total_steps), self.total_steps)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": LambdaLR(optimizer, schedule), "interval": "step"},
        }
