"""AdamW (arXiv 1711.05101), and BERT's variant of it without bias correction."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import AdamW, Optimizer


class BertAdam(Optimizer):
    """Adam with decoupled decay and no bias correction, as BERT was trained (its code, `AdamWeightDecayOptimizer`).

    m <- b1 m + (1 - b1) g; v <- b2 v + (1 - b2) g^2; p <- p - lr (m / (sqrt(v) + eps) + decay p).
    """

    def __init__(
        self,
        params: Iterable[dict[str, Any]],
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.01,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

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
                self.state[p] = {"exp_avg": torch.zeros_like(p), "exp_avg_sq": torch.zeros_like(p)}
        grads = [p.grad for p in params if p.grad is not None]
        exp_avgs = [self.state[p]["exp_avg"] for p in params]
        exp_avg_sqs = [self.state[p]["exp_avg_sq"] for p in params]
        torch._foreach_lerp_(exp_avgs, grads, 1 - beta1)  # m <- b1 m + (1 - b1) g
        torch._foreach_mul_(exp_avg_sqs, beta2)
        torch._foreach_addcmul_(exp_avg_sqs, grads, grads, 1 - beta2)  # v <- b2 v + (1 - b2) g^2
        denominators = torch._foreach_sqrt(exp_avg_sqs)
        torch._foreach_add_(denominators, group["eps"])
        torch._foreach_mul_(params, 1 - group["lr"] * group["weight_decay"])
        torch._foreach_addcdiv_(params, exp_avgs, denominators, -group["lr"])


def adamw(
    groups: Iterable[dict[str, object]],
    lr: float,
    betas: tuple[float, float],
    eps: float,
    bias_correction: bool = True,
) -> Optimizer:
    """torch's fused AdamW, or `BertAdam` without `bias_correction`."""
    if bias_correction:
        optimizer = AdamW(groups, lr=lr, betas=betas, eps=eps, fused=True)
        # the fused kernel could unscale fp16's gradients itself, but clipping comes first and must see them unscaled
        optimizer._step_supports_amp_scaling = False
        return optimizer
    return BertAdam(groups, lr=lr, betas=betas, eps=eps)
