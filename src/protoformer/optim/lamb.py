"""LAMB: Adam whose step on each tensor is scaled by the ratio of that tensor's norm to its update's (arXiv 1904.00962,
algorithm 2).

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
    def step(self, closure: Callable[[], object] | None = None) -> Any:
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
                step = torch.zeros((), dtype=torch.float32, device="cpu")  # there, so that reading it waits for no GPU
                self.state[p] = {"step": step, "exp_avg": torch.zeros_like(p), "exp_avg_sq": torch.zeros_like(p)}
        grads = [p.grad for p in params if p.grad is not None]
        steps, exp_avgs, exp_avg_sqs = (
            [self.state[p][name] for p in params] for name in ("step", "exp_avg", "exp_avg_sq")
        )
        torch._foreach_add_(steps, 1)
        torch._foreach_lerp_(exp_avgs, grads, 1 - beta1)  # m <- b1 m + (1 - b1) g
        torch._foreach_mul_(exp_avg_sqs, beta2)
        torch._foreach_addcmul_(exp_avg_sqs, grads, grads, 1 - beta2)  # v <- b2 v + (1 - b2) g^2
        # without bias correction t is infinite, so that 1 - b^t = 1
        times = [float(step) for step in steps] if self.bias_correction else [float("inf")] * len(params)
        denominators = torch._foreach_div(exp_avg_sqs, [1 - beta2**t for t in times])
        torch._foreach_sqrt_(denominators)
        torch._foreach_add_(denominators, group["eps"])  # sqrt(v') + eps
        updates = torch._foreach_div(exp_avgs, [1 - beta1**t for t in times])
        torch._foreach_div_(updates, denominators)
        torch._foreach_add_(updates, params, alpha=group["weight_decay"])  # u
        _apply_trust_ratios(params, updates)
        torch._foreach_add_(params, updates, alpha=-group["lr"])


def _apply_trust_ratios(params: Sequence[Tensor], updates: Sequence[Tensor]) -> None:
    """u <- |p| / |u| u for each matrix, in place; vectors keep their update."""
    matrices = [(p, update) for p, update in zip(params, updates, strict=True) if p.ndim >= 2]
    if not matrices:
        return
    weights, matrix_updates = (list(column) for column in zip(*matrices, strict=True))
    weight_norms, update_norms = torch._foreach_norm(weights), torch._foreach_norm(matrix_updates)
    for update, weight_norm, update_norm in zip(matrix_updates, weight_norms, update_norms, strict=True):
        nonzero = (weight_norm > 0) & (update_norm > 0)
        update.mul_(torch.where(nonzero, weight_norm / update_norm, torch.ones_like(update_norm)))
