"""Attention within each sequence of a packed batch.

On the CPU long sequences are taken one by one, and short ones of like length together as small rectangles; forward and
backward are written out, so that neither padding nor many small calls are paid for. Elsewhere the whole rectangle is
rebuilt for the library's fused kernel; token-wise work stays packed all the same.
"""

from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from protoformer.blocks import masks
from protoformer.blocks.dropout import keep_mask
from protoformer.blocks.packing import Packing

GROUPED = 1 << 14  # values of one sequence's queries up to which gathering costs less than a call for each sequence
Rows = slice | Int[Tensor, "group seq"]


class Block(NamedTuple):
    """A group of sequences: where its queries and keys stand, which of them are real, and who may attend to whom.

    One sequence alone is a slice, whose tokens need no gathering. `blind` queries may attend to nothing (None: there are
    none that count).
    """

    queries: Rows
    real_queries: Bool[Tensor, "group queries"] | None
    keys: Rows
    real_keys: Bool[Tensor, "group keys"] | None
    allowed: Bool[Tensor, "#group 1 #queries keys"] | None
    blind: Bool[Tensor, "#group 1 #queries 1"] | None


def blocks(layout: Packing, keys: Packing, causal: bool, window: int | None, width: int = 1) -> list[Block]:
    """The groups of a batch, `width` being heads x d_head; kept, since every layer of a stack asks for the same."""
    # the keys' layout itself, never its id, which a later layout may get; not `layout` in its own cache, a cycle
    asked = (None if keys is layout else keys, causal, window, width)
    if asked in layout.blocks:
        return layout.blocks[asked]
    made = []
    for group in layout.groups(GROUPED // width):
        if len(group) == 1:
            one = group[0]
            pattern = masks.pattern(layout.lengths[one], keys.lengths[one], causal, window)
            allowed = None if pattern is None else pattern[None, None]
            made.append(Block(layout.place(one), None, keys.place(one), None, allowed, _blind(allowed, None)))
            continue
        queries, real_queries = layout.block(group)
        key_places, real_keys = keys.block(group)
        allowed = None if real_keys is None else masks.padding(real_keys)
        pattern = masks.pattern(queries.shape[1], key_places.shape[1], causal, window)
        if pattern is not None:
            allowed = pattern[None, None] if allowed is None else allowed & pattern
        made.append(Block(queries, real_queries, key_places, real_keys, allowed, _blind(allowed, real_queries)))
    layout.blocks[asked] = made
    return made


def _blind(
    allowed: Bool[Tensor, "#group 1 #queries keys"] | None, real_queries: Bool[Tensor, "group queries"] | None
) -> Bool[Tensor, "#group 1 #queries 1"] | None:
    """Queries that may attend to nothing; None where no real one is among them, since only real ones are read."""
    if allowed is None:
        return None
    blind = ~allowed.any(-1, keepdim=True)
    counted = blind if real_queries is None else blind & real_queries[:, None, :, None]
    return blind if counted.any() else None


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
        return GroupedAttention.apply(q, k, v, blocks(layout, keys, causal, window, q.shape[1] * q.shape[2]), dropout)
    queries, key, value = (
        which.unpack(x).transpose(1, 2) for x, which in ((q, layout), (k, keys), (v, keys))
    )  # batch heads seq d_head
    allowed = masks.padding(keys.padding_mask)
    pattern = masks.pattern(layout.seq, keys.seq, causal, window, q.device)
    if pattern is not None:
        allowed = allowed & pattern
    mixed = functional.scaled_dot_product_attention(queries, key, value, attn_mask=allowed, dropout_p=dropout)
    return layout.pack(mixed.transpose(1, 2))


class GroupedAttention(torch.autograd.Function):
    """The formula of equation 1 and its derivative, group by group.

    With weights A = dropout(P), P = softmax(S), S = q k^T c: dV = A^T dO, dP = dropout'(dO V^T),
    dS = P (dP - rowsum(dP P)), dQ = c dS K, dK = c dS^T Q.
    """

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, groups: list[Block], dropout: float) -> Tensor:
        out = torch.empty(q.shape, dtype=q.dtype)
        scale = q.shape[-1] ** -0.5
        saved: list[Tensor] = []
        training = any(ctx.needs_input_grad)
        for block in groups:
            query, key, value = _take(q, block.queries), _take(k, block.keys), _take(v, block.keys)
            scores = torch.matmul(query, key.transpose(2, 3)).mul_(scale)
            if block.allowed is not None:
                # finite, so that a query that may see nothing gives zero gradients, not NaN
                scores.masked_fill_(~block.allowed, torch.finfo(scores.dtype).min)
            share = torch.softmax(scores, -1)
            if block.blind is not None:
                share.masked_fill_(block.blind, 0.0)
            kept = share
            if dropout:
                keep = keep_mask(share, dropout)
                kept = share * keep
                saved.append(keep)
            if training:
                saved.append(share)
            _put(out, block.queries, block.real_queries, torch.matmul(kept, value))
        if training:
            ctx.save_for_backward(q, k, v, *saved)
            ctx.groups, ctx.dropout = groups, dropout
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, *saved = ctx.saved_tensors
        grad_q, grad_k, grad_v = (torch.empty(x.shape, dtype=x.dtype) for x in (q, k, v))
        scale = q.shape[-1] ** -0.5
        pieces = iter(saved)
        for block in ctx.groups:
            keep = next(pieces) if ctx.dropout else None
            share = next(pieces)
            query, key, value = _take(q, block.queries), _take(k, block.keys), _take(v, block.keys)
            grad_out = _take(grads[0], block.queries)
            if block.real_queries is not None:  # a padded query stands on a real token's place: it must not count twice
                grad_out = grad_out * block.real_queries[:, None, :, None]
            kept = share if keep is None else share * keep
            _put(grad_v, block.keys, block.real_keys, torch.matmul(kept.transpose(2, 3), grad_out))
            grad_share = torch.matmul(grad_out, value.transpose(2, 3))
            if keep is not None:
                grad_share.mul_(keep)
            grad_scores = torch.ops.aten._softmax_backward_data(grad_share, share, -1, share.dtype).mul_(scale)
            _put(grad_q, block.queries, block.real_queries, torch.matmul(grad_scores, key))
            _put(grad_k, block.keys, block.real_keys, torch.matmul(grad_scores.transpose(2, 3), query))
        return grad_q, grad_k, grad_v, None, None


def _take(x: Tensor, rows: Rows) -> Float[Tensor, "group heads seq d_head"]:
    if isinstance(rows, slice):
        return x[rows].transpose(0, 1)[None]
    return x.index_select(0, rows.flatten()).view(*rows.shape, *x.shape[1:]).transpose(1, 2)


def _put(x: Tensor, rows: Rows, real: Tensor | None, values: Float[Tensor, "group heads seq d_head"]) -> None:
    by_token = values.transpose(1, 2)
    if isinstance(rows, slice):
        x[rows] = by_token[0]
    elif real is None:
        x.index_copy_(0, rows.flatten(), by_token.flatten(0, 1))
    else:
        x.index_copy_(0, rows[real], by_token[real])
