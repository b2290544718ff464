"""Cross-entropy of a softmax over a large vocabulary, whose logits are never whole in memory.

A language model's loss asks for tokens x 50,257 logits, more than everything else that a small model keeps. Here they are
made chunk by chunk and used at once: each chunk's softmax gives its losses and its share of both gradients. The gradient of
one token's loss is known but for a factor, the gradient that will come from above; where that is the same for all tokens,
as below a sum or a mean, backward has only to multiply. Where it is not, the weight's gradient is made anew, chunk by chunk.
"""

import math
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

CHUNK = 512  # tokens; enough for matrix products at full speed; 50,257 words take 100 MB


def linear_cross_entropy(
    hidden: Float[Tensor, "tokens d_model"],
    weight: Float[Tensor, "vocab d_model"],
    targets: Int[Tensor, "tokens"],
    chunk: int = CHUNK,
) -> Float[Tensor, "tokens"]:
    """The negative log likelihood of each target under softmax(hidden weight^T), in nats.

    The softmax is in float32 at least, the products in the type that autocast asks for. `chunk` tokens have their logits in
    memory at a time. Raises ValueError for a chunk below 1.
    """
    if chunk < 1:
        raise ValueError(f"chunk {chunk}: at least one token at a time")
    device, dtype = hidden.device.type, hidden.dtype
    if device != "meta" and torch.is_autocast_enabled(device):
        dtype = torch.get_autocast_dtype(device)
    graph = torch.is_grad_enabled()
    wanted = (graph and hidden.requires_grad, graph and weight.requires_grad)
    return LinearCrossEntropy.apply(hidden, weight, targets, chunk, dtype, wanted)


class LinearCrossEntropy(torch.autograd.Function):
    """With p_i = softmax(W h_i) and e_i the target: dL_i / dh_i = W^T (p_i - e_i), dL_i / dW = (p_i - e_i) h_i^T."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        targets: Tensor,
        chunk: int,
        dtype: torch.dtype,
        wanted: tuple[bool, bool],
    ) -> Tensor:
        ctx.chunk, ctx.dtype, ctx.wanted = chunk, dtype, wanted
        losses, ctx.grad_hidden, ctx.grad_weight = _pass(hidden, weight, targets, chunk, dtype, wanted)
        if any(wanted):
            ctx.save_for_backward(hidden, weight, targets)
        return losses

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, targets = ctx.saved_tensors
        # given away, not copied: a second pass through a kept graph makes them anew
        grad_hidden, grad_weight, ctx.grad_hidden, ctx.grad_weight = ctx.grad_hidden, ctx.grad_weight, None, None
        factor = _common(grads[0])
        if factor is None:
            grad_weight = None
        if grad_hidden is not None and factor != 1.0:
            grad_hidden.mul_(grads[0][:, None])
        if grad_weight is not None and factor is not None and factor != 1.0:
            grad_weight.mul_(factor)
        missing = (ctx.wanted[0] and grad_hidden is None, ctx.wanted[1] and grad_weight is None)
        if any(missing):
            _, hidden_anew, weight_anew = _pass(hidden, weight, targets, ctx.chunk, ctx.dtype, missing, grads[0])
            grad_hidden = hidden_anew if missing[0] else grad_hidden
            grad_weight = weight_anew if missing[1] else grad_weight
        return grad_hidden, grad_weight, None, None, None, None


def _common(grad: Float[Tensor, "tokens"]) -> float | None:
    """The factor that all tokens share, None where they differ; on the meta device, which holds no values, 1."""
    if grad.is_meta or not len(grad):
        return 1.0
    if grad.stride() != (0,) and not bool((grad == grad[0]).all()):
        return None
    return float(grad[0])


def _pass(
    hidden: Float[Tensor, "tokens d_model"],
    weight: Float[Tensor, "vocab d_model"],
    targets: Int[Tensor, "tokens"],
    chunk: int,
    dtype: torch.dtype,
    wanted: tuple[bool, bool],
    scales: Float[Tensor, "tokens"] | None = None,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Losses, and the gradients of their sum (or, with `scales`, of their weighted sum) that are `wanted`."""
    precise = torch.promote_types(dtype, torch.float32)
    losses = torch.empty(len(targets), dtype=precise, device=hidden.device)
    grad_hidden = torch.empty_like(hidden) if wanted[0] else None
    grad_weight = torch.zeros_like(weight) if wanted[1] else None
    cast, table = hidden.to(dtype), weight.to(dtype)
    parts = math.ceil(len(targets) / chunk)
    size = math.ceil(len(targets) / max(1, parts))  # chunks of like size: a short last one would run slowly
    room = hidden.new_empty(size, len(weight), dtype=dtype)  # written over by every chunk; fresh memory costs much
    for start in range(0, len(targets), max(1, size)):
        rows = slice(start, start + size)
        target, logits = targets[rows, None], room[: len(targets[rows])]
        torch.mm(cast[rows], table.t(), out=logits)
        share = logits.to(precise)
        peak, told = share.amax(-1), share.gather(1, target).squeeze(1)
        torch.softmax(share, -1, out=share)
        # the largest share is exp(0) over the sum, which so need not be taken again
        losses[rows] = peak - told - share.amax(-1).log()
        if not any(wanted):
            continue
        share.scatter_add_(1, target, share.new_full(target.shape, -1.0))
        if scales is not None:
            share.mul_(scales[rows, None])
        slope = share.to(dtype)
        if grad_hidden is not None:
            grad_hidden[rows] = torch.mm(slope, table)
        if grad_weight is not None:
            _add_product(grad_weight, slope.t(), cast[rows])
    return losses, grad_hidden, grad_weight


def _add_product(total: Tensor, a: Tensor, b: Tensor) -> None:
    """total += a b, in `total`'s own precision."""
    if total.dtype == a.dtype:
        torch.addmm(total, a, b, out=total)
    else:
        total.add_(torch.mm(a, b))
