"""WatchLayers: norms of each layer's gradient, update and weights (`trainer.watch=layers`)."""

import math
import re
from collections.abc import Mapping

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn
from torch.optim import Optimizer

from protoformer.distributed.sharding.units import is_sharded, local_tensors
from protoformer.modules.task_module import TaskModule

STACKS = ("stack", "encoder", "decoder")


def layer_of(name: str) -> str:
    """The layer that a parameter belongs to: `encoder.layers.3` of one in a stack, else `embeddings`, `head`, ..."""
    name = name.removeprefix("backbone.")
    if match := re.match(r".*?layers\.\d+(?=\.)", name):
        return match[0]
    parts = name.split(".")
    return ".".join(parts[: 2 if parts[0] in STACKS else 1])


class WatchLayers(Callback):
    """For each layer and logged step the norm of its gradient before the clip, of the step's change of its weights, and of that
    change relative to its weights. A weight that two parts share counts with the first.

    It only reads, so a run is the same with and without it. At a logged step it holds a copy of the trained weights (of a
    sharded run those of this rank), and waits for the device once more. The squares of all layers' gradient norms add up to
    that of `train/grad_norm`.
    """

    def __init__(self, log_every: int) -> None:
        self.log_every = log_every
        self.norms: Mapping[str, float] = {}  # of the last optimizer step, where it is a logged one
        self._before: dict[
            str, list[tuple[nn.Parameter, Tensor]]
        ] = {}  # by layer: its weights, and a copy of before the step

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer
    ) -> None:
        self.norms, self._before = {}, {}
        step, total = trainer.global_step + 1, getattr(pl_module, "total_steps", None)
        if step % self.log_every and step != total:
            return
        for name, parameter in pl_module.named_parameters():
            if parameter.requires_grad:
                copy = local_tensors([parameter.detach()])[0].clone()
                self._before.setdefault(layer_of(name), []).append((parameter, copy))

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        layers, self._before = self._before, {}
        if not layers or not isinstance(pl_module, TaskModule) or pl_module.step_metrics is None:
            return
        squares = torch.stack([_squares(weights) for weights in layers.values()])  # (layers, 3)
        if is_sharded(pl_module):
            squares = trainer.strategy.reduce(squares, reduce_op="sum")
        clip = pl_module.optimization and pl_module.optimization.clip
        unclipped = max(1.0, (pl_module.step_metrics.grad_norm + 1e-6) / clip) if clip else 1.0
        norms = dict(zip(layers, squares.sqrt().tolist(), strict=True))
        self.norms = {
            f"watch/{quantity}/{layer}": value
            for layer, (gradient, update, weight) in norms.items()
            for quantity, value in (
                ("grad_norm", gradient * unclipped),
                ("update_norm", update),
                ("update_ratio", update / weight if weight else math.nan),
            )
            if math.isfinite(value)
        }


def _squares(weights: list[tuple[nn.Parameter, Tensor]]) -> Tensor:
    """(3), float64: sums of squares of this rank's gradients, updates and weights before the step."""
    now = local_tensors([parameter.detach() for parameter, _ in weights])
    before = [copy for _, copy in weights]
    gradients = local_tensors([parameter.grad for parameter, _ in weights if parameter.grad is not None])
    updates = torch._foreach_sub(now, before)
    return torch.stack([_sum_of_squares(each, before[0]) for each in (gradients, list(updates), before)])


def _sum_of_squares(tensors: list[Tensor], like: Tensor) -> Tensor:
    if not tensors:
        return like.new_zeros((), dtype=torch.double)
    return torch.stack([norm.double() for norm in torch._foreach_norm(tensors)]).square().sum()
