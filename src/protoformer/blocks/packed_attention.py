"""Attention within each sequence of a packed batch.

On the CPU one small product a sequence, forward and backward written out, so that neither padding nor one autograd node a
sequence is paid for. Elsewhere the rectangle is rebuilt for the fused kernel: token-wise work stays packed all the same.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from protoformer.blocks import masks
from protoformer.blocks.dropout import keep_mask
from protoformer.blocks.packing import Packing


def attend_packed(
    q: Float[Tensor, "tokens heads d_head"],
    k: Float[Tensor, "sources heads d_head"],
    v: Float[Tensor, "sources heads d_head"],
    layout: Packing,
    keys: Packing,
    *,
    causal: bool = False,
    window: int | None = None,
    dropout: float = 0.0,
) -> Float[Tensor, "tokens heads d_head"]:
    """softmax(Q K^T / sqrt(d_head)) V, each sequence of `layout` against the same one of `keys`."""
    if q.device.type == "cpu":
        return _PerSequence.apply(q, k, v, layout.lengths, keys.lengths, causal, window, dropout)
    queries, key, value = (
        which.unpack(x).transpose(1, 2) for x, which in ((q, layout), (k, keys), (v, keys))
    )  # batch heads seq d_head
    allowed = masks.padding(keys.padding_mask)
    pattern = masks.pattern(layout.seq, keys.seq, causal, window, q.device)
    if pattern is not None:
        allowed = allowed & pattern
    mixed = functional.scaled_dot_product_attention(queries, key, value, attn_mask=allowed, dropout_p=dropout)
    return layout.pack(mixed.transpose(1, 2))


class _PerSequence(torch.autograd.Function):
    """The formula of equation 1 and its derivative, sequence by sequence.

    With weights A = dropout(P), P = softmax(S), S = q k^T c: dV = A^T dO, dP = dropout'(dO V^T),
    dS = P (dP - rowsum(dP P)), dQ = c dS K, dK = c dS^T Q.
    """

    @staticmethod
    def forward(
        ctx: Any,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        q_lengths: list[int],
        k_lengths: list[int],
        causal: bool,
        window: int | None,
        dropout: float,
    ) -> Tensor:
        out = torch.empty(q.shape, dtype=q.dtype)
        scale = q.shape[-1] ** -0.5
        saved: list[Tensor] = []
        training = any(ctx.needs_input_grad)
        start_q = start_k = 0
        for n_q, n_k in zip(q_lengths, k_lengths, strict=True):
            query = q[start_q : start_q + n_q].transpose(0, 1)
            key = k[start_k : start_k + n_k].transpose(0, 1)
            value = v[start_k : start_k + n_k].transpose(0, 1)
            scores = torch.matmul(query * scale, key.transpose(1, 2))
            allowed = masks.pattern(n_q, n_k, causal, window)
            if allowed is not None:
                scores.masked_fill_(~allowed, -torch.inf)
            share = torch.softmax(scores, -1)
            kept = share
            if dropout:
                keep = keep_mask(share, dropout)
                kept = share * keep
                saved.append(keep)
            if training:
                saved.append(share)
            out[start_q : start_q + n_q].transpose(0, 1).copy_(torch.matmul(kept, value))
            start_q, start_k = start_q + n_q, start_k + n_k
        if training:
            ctx.save_for_backward(q, k, v, *saved)
            ctx.lengths, ctx.dropout = (q_lengths, k_lengths), dropout
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, *saved = ctx.saved_tensors
        grad_q, grad_k, grad_v = torch.empty(q.shape, dtype=q.dtype), torch.empty_like(k), torch.empty_like(v)
        scale = q.shape[-1] ** -0.5
        pieces = iter(saved)
        start_q = start_k = 0
        for n_q, n_k in zip(*ctx.lengths, strict=True):
            rows, columns = slice(start_q, start_q + n_q), slice(start_k, start_k + n_k)
            keep = next(pieces) if ctx.dropout else None
            share = next(pieces)
            grad_out = grads[0][rows].transpose(0, 1)
            kept = share if keep is None else share * keep
            grad_v[columns].transpose(0, 1).copy_(torch.matmul(kept.transpose(1, 2), grad_out))
            grad_share = torch.matmul(grad_out, v[columns].permute(1, 2, 0))
            if keep is not None:
                grad_share.mul_(keep)
            grad_scores = torch.ops.aten._softmax_backward_data(grad_share, share, -1, share.dtype).mul_(scale)
            grad_q[rows].transpose(0, 1).copy_(torch.matmul(grad_scores, k[columns].transpose(0, 1)))
            grad_k[columns].transpose(0, 1).copy_(torch.matmul(grad_scores.transpose(1, 2), q[rows].transpose(0, 1)))
            start_q, start_k = start_q + n_q, start_k + n_k
        return grad_q, grad_k, grad_v, None, None, None, None, None
