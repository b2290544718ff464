"""Fused linear layer and cross-entropy over a large vocabulary; the logits are never whole in memory.

The logits of a language model are tokens x 50,257, more than everything else that a small model keeps. Here they are made
chunk by chunk, and each chunk gives its losses and its part of both gradients at once. With p = softmax(logits) and y the
one-hot target, d loss_i / d logits_i = p_i - y_i is known in the forward pass; the upstream gradient enters as a factor. If
that is one scalar for all tokens, as under a sum or a mean, backward only multiplies. If not, the weight's gradient is
computed again, chunk by chunk.
"""

import math
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

# of d loss / d logits in fp16, whose least number is 6e-8: probabilities of a large vocabulary are smaller
FP16_SCALE = 1024.0
CHUNK = 512  # tokens: enough for matrix products at full speed; with a vocabulary of 50,257 a chunk takes 100 MB


def linear_cross_entropy(
    hidden: Float[Tensor, "tokens d_model"],
    weight: Float[Tensor, "vocab d_model"],
    targets: Int[Tensor, "tokens"],
    chunk: int = CHUNK,
) -> Float[Tensor, "tokens"]:
    """-log softmax(hidden weight^T)[target] of each token, in nats.

    The softmax is in float32 or wider, the products in autocast's dtype. The logits of `chunk` tokens are in memory at a
    time. Raises ValueError for a chunk below 1.
    """
    if chunk < 1:
        raise ValueError(f"chunk {chunk}: must be at least 1")
    device, dtype = hidden.device.type, hidden.dtype
    # a custom Function is not seen by autocast: its dtype is read here
    if device != "meta" and torch.is_autocast_enabled(device):
        dtype = torch.get_autocast_dtype(device)
    grad_enabled = torch.is_grad_enabled()
    needs_grad = (grad_enabled and hidden.requires_grad, grad_enabled and weight.requires_grad)
    return LinearCrossEntropy.apply(hidden, weight, targets, chunk, dtype, needs_grad)


class LinearCrossEntropy(torch.autograd.Function):
    """With p_i = softmax(W h_i) and y_i the one-hot target: dL_i / dh_i = W^T (p_i - y_i), dL_i / dW = (p_i - y_i) h_i^T."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        targets: Tensor,
        chunk: int,
        dtype: torch.dtype,
        needs_grad: tuple[bool, bool],
    ) -> Tensor:
        ctx.chunk, ctx.dtype, ctx.needs_grad = chunk, dtype, needs_grad
        # both gradients are computed in forward, while the chunk's probabilities are in the cache
        losses, ctx.grad_hidden, ctx.grad_weight = _chunked_pass(hidden, weight, targets, chunk, dtype, needs_grad)
        if any(needs_grad):
            ctx.save_for_backward(hidden, weight, targets)
        return losses

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, targets = ctx.saved_tensors
        # handed over, not copied: a second backward through a retained graph computes them again
        grad_hidden, grad_weight, ctx.grad_hidden, ctx.grad_weight = ctx.grad_hidden, ctx.grad_weight, None, None
        factor = _common_factor(grads[0])
        if factor is None:
            grad_weight = None
        is_one = isinstance(factor, float) and factor == 1.0
        # d loss_i / d hidden_i times the upstream gradient of token i
        if grad_hidden is not None and not is_one:
            grad_hidden.mul_(grads[0][:, None])
        # a sum over tokens: one factor can still be applied to it, different ones cannot
        if grad_weight is not None and factor is not None and not is_one:
            grad_weight.mul_(factor)
        recompute = (ctx.needs_grad[0] and grad_hidden is None, ctx.needs_grad[1] and grad_weight is None)
        if any(recompute):
            _, recomputed_grad_hidden, recomputed_grad_weight = _chunked_pass(
                hidden, weight, targets, ctx.chunk, ctx.dtype, recompute, grads[0]
            )
            grad_hidden = recomputed_grad_hidden if recompute[0] else grad_hidden
            grad_weight = recomputed_grad_weight if recompute[1] else grad_weight
        return grad_hidden, grad_weight, None, None, None, None


def _common_factor(grad: Float[Tensor, "tokens"]) -> Float[Tensor, ""] | float | None:
    """The upstream gradient where it is the same for all tokens, else None; 1 on the meta device, which has no values.

    On a GPU it stays there: to read it would wait for the whole forward pass.
    """
    if grad.is_meta or not len(grad):
        return 1.0
    # sum() and mean() give an expanded scalar of stride 0: no values need to be compared
    if grad.device.type != "cpu":
        return grad[0] if grad.stride() == (0,) else None
    if grad.stride() != (0,) and not bool((grad == grad[0]).all()):
        return None
    return float(grad[0])


def _chunked_pass(
    hidden: Float[Tensor, "tokens d_model"],
    weight: Float[Tensor, "vocab d_model"],
    targets: Int[Tensor, "tokens"],
    chunk: int,
    dtype: torch.dtype,
    needs_grad: tuple[bool, bool],
    scales: Float[Tensor, "tokens"] | None = None,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Losses, and where `needs_grad` the gradients of their sum (with `scales`, of their weighted sum).

    In fp16 p - y is scaled up before it is rounded, and products with it are float32, in which they cannot overflow.
    """
    # bf16 logits would lose the small differences that the loss is made of
    precise = torch.promote_types(dtype, torch.float32)
    losses = torch.empty(len(targets), dtype=precise, device=hidden.device)
    in_fp16 = dtype == torch.float16
    grad_hidden = torch.empty_like(hidden, dtype=precise if in_fp16 else None) if needs_grad[0] else None
    grad_weight = torch.zeros_like(weight) if needs_grad[1] else None
    cast_hidden, cast_weight = hidden.to(dtype), weight.to(dtype)
    upscale = _fp16_factor(losses, scales) if in_fp16 and any(needs_grad) else None
    n_chunks = math.ceil(len(targets) / chunk)
    size = math.ceil(len(targets) / max(1, n_chunks))  # chunks of equal size: a short last one would run slowly
    buffer = hidden.new_empty(size, len(weight), dtype=dtype)  # reused by every chunk: fresh memory is expensive
    for start in range(0, len(targets), max(1, size)):
        rows = slice(start, start + size)
        target, logits = targets[rows, None], buffer[: len(targets[rows])]
        torch.mm(cast_hidden[rows], cast_weight.t(), out=logits)
        logits_fp32 = logits.to(precise)  # (chunk, vocab)
        max_logit, target_logit = logits_fp32.amax(-1), logits_fp32.gather(1, target).squeeze(1)
        probs = torch.softmax(logits_fp32, -1, out=logits_fp32)
        # the largest probability is exp(0) / sumexp, so log sumexp = -log(max prob): no second pass over the vocabulary
        losses[rows] = max_logit - target_logit - probs.amax(-1).log()
        if not any(needs_grad):
            continue
        probs.scatter_add_(1, target, probs.new_full(target.shape, -1.0))  # p - y
        if scales is not None:  # second pass with different upstream gradients
            probs.mul_(scales[rows, None])
        if upscale is not None:
            probs.mul_(upscale)
        grad_logits = probs.to(dtype)
        if grad_hidden is not None:
            grad_hidden[rows] = _product(grad_logits, cast_weight)  # (chunk, vocab) (vocab, d_model)
        if grad_weight is not None:
            # (vocab, chunk) (chunk, d_model), added up in the precision of the weight
            _add_product(grad_weight, grad_logits.t(), cast_hidden[rows])
    if upscale is not None:
        grad_hidden = None if grad_hidden is None else grad_hidden.div_(upscale).to(hidden.dtype)
        grad_weight = None if grad_weight is None else grad_weight.div_(upscale)
    return losses, grad_hidden, grad_weight


def _fp16_factor(losses: Tensor, scales: Float[Tensor, "tokens"] | None) -> Tensor:
    """What gradients are multiplied by before they are rounded to fp16; in precision and on the device of the losses."""
    factor = torch.full((), FP16_SCALE, dtype=losses.dtype, device=losses.device)
    if scales is None:
        return factor
    # those of a gradient scaler, up to 65,536
    return factor / scales.abs().amax().clamp_min(torch.finfo(losses.dtype).tiny)


def _product(a: Tensor, b: Tensor) -> Tensor:
    """a b; of fp16 in float32."""
    if a.dtype != torch.float16:
        return torch.mm(a, b)
    return torch.mm(a, b, out_dtype=torch.float32) if a.is_cuda else torch.mm(a.float(), b.float())


def _add_product(total: Tensor, a: Tensor, b: Tensor) -> None:
    """total += a b, accumulated in `total`'s precision."""
    if total.dtype == a.dtype:
        torch.addmm(total, a, b, out=total)
    else:
        total.add_(_product(a, b))
