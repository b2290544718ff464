"""LAMB: Adam whose step on each tensor is as long as that tensor's norm says (arXiv 1904.00962, algorithm 2).

Made for pretraining BERT with batches of thousands of sequences (section 4.1; BERT in 76 minutes).

Differs: biases and normalisation gains (tensors of one dimension) get the trust ratio 1, as in the common codes for BERT, where
what does not decay is not adapted either. The paper's phi, which may clip the norm of the weights, is the identity.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer


class Lamb(Optimizer):
    """m <- b1 m + (1 - b1) g; v <- b2 v + (1 - b2) g^2; u = m' / (sqrt(v') + eps) + decay p; p <- p - lr |p| / |u| u.

    m' = m / (1 - b1^t) and v' = v / (1 - b2^t), or m and v themselves without `bias_correction`. Where |p| or |u| is 0 the
    trust ratio |p| / |u| is 1.
    """

    def __init__(
        self,
        params: Iterable[dict[str, Any]],
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.01,
        bias_correction: bool = True,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})
        self.bias_correction = bias_correction

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            if params:
                self._update(params, group)
        return loss

    def _update(self, params: list[Tensor], group: dict[str, Any]) -> None:
        beta1, beta2 = group["betas"]
        for p in params:
            if not self.state[p]:
                step = torch.zeros((), dtype=torch.float32, device="cpu")  # read there, so that no GPU is waited for
                self.state[p] = {"step": step, "mean": torch.zeros_like(p), "square": torch.zeros_like(p)}
        grads = [p.grad for p in params if p.grad is not None]
        steps, means, squares = ([self.state[p][name] for p in params] for name in ("step", "mean", "square"))
        torch._foreach_add_(steps, 1)
        torch._foreach_lerp_(means, grads, 1 - beta1)
        torch._foreach_mul_(squares, beta2)
        torch._foreach_addcmul_(squares, grads, grads, 1 - beta2)
        done = [float(step) for step in steps] if self.bias_correction else [float("inf")] * len(params)
        scale = torch._foreach_div(squares, [1 - beta2**step for step in done])
        torch._foreach_sqrt_(scale)
        torch._foreach_add_(scale, group["eps"])
        updates = torch._foreach_div(means, [1 - beta1**step for step in done])
        torch._foreach_div_(updates, scale)
        torch._foreach_add_(updates, params, alpha=group["weight_decay"])
        _trust(params, updates)
        torch._foreach_add_(params, updates, alpha=-group["lr"])


def _trust(params: Sequence[Tensor], updates: Sequence[Tensor]) -> None:
    """Bring each matrix's update to its own norm, in place."""
    adapted = [(p, update) for p, update in zip(params, updates, strict=True) if p.ndim >= 2]
    if not adapted:
        return
    weights, steps = ([pair[side] for pair in adapted] for side in (0, 1))
    for step, weight_norm, step_norm in zip(
        steps, torch._foreach_norm(weights), torch._foreach_norm(steps), strict=True
    ):
        both = (weight_norm > 0) & (step_norm > 0)
        step.mul_(torch.where(both, weight_norm / step_norm, torch.ones_like(step_norm)))
