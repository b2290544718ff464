"""Gradient normalisation: sums of gradients become the gradient of the mean loss over all targets of a global batch.

A batch of n targets is cut into micro-batches, and those are spread over ranks. Each micro-batch's backward pass adds the
gradient of its *summed* loss; after the last one, all gradients are multiplied once by

    scale = world_size x accumulation x K / n

(Lightning has divided them by `accumulation`, DDP by `world_size`; K is `loss_divisor`) and then clipped by their global
norm. So k micro-batches of b, or k ranks, equal one batch of k b, and the ragged last batch of an epoch is right too.
"""

import logging
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.optim import Optimizer

from protoformer.distributed.sharding.units import full_tensor, local_tensors
from protoformer.errors import DivergedError
from protoformer.modules.objective.loss import Loss

log = logging.getLogger(__name__)
MAX_SKIPPED = 40  # steps in a row: by then a scaler's factor has gone from 65,536 to 1e-7
DIVERGED_ADVICE = "a lower recipe.lr, or a longer recipe.warmup, is the usual cure; debug=nan names the module"


@dataclass(frozen=True)
class StepMetrics:
    """The last optimizer step: means over the targets of all ranks and micro-batches, the gradient's norm before the clip,
    the learning rate of the first parameter group."""

    loss: float
    grad_norm: float
    lr: float
    running_metrics: Mapping[str, float]
    skipped_steps: int | None = None  # steps of this run whose gradients overflowed; None without a gradient scaler

    def named(self) -> dict[str, float]:
        """The names that are logged."""
        running = {f"train/{name}": value for name, value in self.running_metrics.items()}
        skipped = {} if self.skipped_steps is None else {"train/skipped_steps": float(self.skipped_steps)}
        return {"train/loss": self.loss, **running, "train/grad_norm": self.grad_norm, "train/lr": self.lr, **skipped}


class GradientNormalizer:
    """Accumulates (sum, count) of the loss and of the running metrics over micro-batches; at the optimizer step reduces them
    over ranks, scales and clips the gradients.

    `clip` is the largest norm of the gradient (None: no clip). One step waits for the device once (`apply`).

    `loss_divisor` is K, by which the sum of the losses is divided before the backward pass: about the number of targets of a
    micro-batch, where gradients are of fp16, which a sum over thousands of targets overflows; else 1.
    """

    def __init__(self, clip: float | None) -> None:
        self.clip, self.loss_divisor = clip, 1
        self.skipped_steps = 0  # of this run
        self.skipped_in_a_row = 0
        self.seconds: float | None = None
        self._sums: dict[str, Tensor] = {}  # name -> (sum, count) of this optimizer step on this rank; "" is the loss

    @property
    def is_empty(self) -> bool:
        """Whether no micro-batch of this optimizer step has been added yet."""
        return not self._sums

    def add(self, loss: Loss) -> None:
        """Add a micro-batch's loss and running metrics."""
        for name, (total, count) in {"": (loss.total, loss.targets), **loss.running_metrics}.items():
            pair = torch.stack([total.detach().double(), count.double()])
            self._sums[name] = self._sums[name] + pair if name in self._sums else pair

    def apply(
        self,
        optimizer: Optimizer,
        *,
        reduce: Callable[[Tensor], Tensor],
        divided_by: int,
        step: int,
        stop_requested: bool = False,
        seconds: float | None = None,
        overflow_is_skipped: bool = False,
    ) -> tuple[StepMetrics, bool]:
        """Scale and clip the gradients of `optimizer`; give the step's metrics, and whether any rank asked to stop.

        `reduce` sums a tensor over ranks; `divided_by` is what gradients have been divided by already (world size times
        micro-batches); `step` is named in errors. `overflow_is_skipped`: a gradient scaler skips steps of an infinite norm.
        `seconds` are added over ranks in the same reduction, as `self.seconds` (None: no rank counts them).

        Raises DivergedError for a loss or a norm that is no number, before a gradient or a weight is changed.
        """
        if self.is_empty:
            raise RuntimeError("an optimizer step without a training step")
        sums, self._sums = self._sums, {}
        stop_flag = sums[""].new_full((1,), float(stop_requested))
        time = [] if seconds is None else [sums[""].new_full((1,), seconds)]
        reduced = reduce(torch.cat([*sums.values(), *time, stop_flag]))  # (2 x names + 1 or 2), double

        grads = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        # on the device, so that the norm below can be read together with the sums: one synchronisation a step
        targets = torch.where(reduced[1] > 0, reduced[1], 1.0)  # a sum of class weights may be below 1
        norm = global_norm(grads)
        scale = (torch.full_like(targets, float(divided_by * self.loss_divisor)) / targets).to(norm.dtype)
        norm = norm * scale
        *values, grad_norm = torch.cat([reduced, norm.double().reshape(1)]).tolist()  # waits for the device
        self.seconds = values[-2] if time else None

        means = {
            name: total / (count or 1.0) for name, total, count in zip(sums, values[::2], values[1::2], strict=False)
        }
        if not math.isfinite(values[0]):
            raise _diverged(f"the loss is {values[0]}", step)
        if not math.isfinite(grad_norm) and not overflow_is_skipped:
            raise _diverged(f"the gradient's norm is {grad_norm}", step)
        if overflow_is_skipped:
            self._count_skipped(not math.isfinite(grad_norm), step)
        coefficient = scale
        if self.clip is not None:
            coefficient = scale * (self.clip / (norm + 1e-6)).clamp(max=1.0)
        torch._foreach_mul_(local_tensors(grads), coefficient)
        loss = means.pop("")
        skipped = self.skipped_steps if overflow_is_skipped else None
        return StepMetrics(loss, grad_norm, float(optimizer.param_groups[0]["lr"]), means, skipped), values[-1] > 0

    def scaled(self, total: Tensor) -> Tensor:
        """The loss that the backward pass begins from."""
        return total if self.loss_divisor == 1 else total / self.loss_divisor

    def _count_skipped(self, is_skipped: bool, step: int) -> None:
        self.skipped_in_a_row = self.skipped_in_a_row + 1 if is_skipped else 0
        if not is_skipped:
            return
        self.skipped_steps += 1
        if self.skipped_steps == 1:
            log.info("step %d is skipped: its gradients overflow fp16 (train/skipped_steps counts such steps)", step)
        if self.skipped_in_a_row == MAX_SKIPPED:
            raise _diverged(f"the gradients of {MAX_SKIPPED} steps in a row are not finite", step)


def global_norm(tensors: Iterable[Tensor]) -> Tensor:
    """The L2 norm of all tensors as one vector, without waiting for the device; of sharded ones over the shards of all ranks.

    The one place that computes a norm over parameters or gradients.
    """
    return full_tensor(torch.nn.utils.get_total_norm(list(tensors)))


def _diverged(what: str, step: int) -> DivergedError:
    return DivergedError(f"{what} at step {step}; stopped before the weights were touched ({DIVERGED_ADVICE})")
