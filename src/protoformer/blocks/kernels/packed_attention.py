"""Attention within each sequence of a packed batch.

On the CPU a long sequence is computed alone, and short ones of like length together as a small padded group; forward and
backward are written out, so that neither padding nor many small calls are paid for. Under a causal or banded mask the
queries are split into tiles, each against only the keys that some query of it may see: of a long sequence half of the
square, or the band. On other devices the batch is unpacked for torch's fused kernel; token-wise work stays packed.
"""

import math
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from protoformer.blocks import masks
from protoformer.blocks.kernels.dropout import dropout_scale, sign_encode_dropped
from protoformer.blocks.kernels.packing import PackedLayout
from protoformer.blocks.kernels.planned import fused_attention, kernels_of
from protoformer.blocks.kernels.tiles import (
    Tile,
    TileSum,
    TokenIndex,
    concatenated,
    gather,
    product,
    scatter,
    tile_attn_weights,
)

# numbers in one sequence's queries (seq x heads x d_head) up to which gathering is cheaper than a call for each sequence
MAX_GROUPED_SIZE = 1 << 14
# queries: smaller tiles waste less above the diagonal, larger ones make fewer calls (256 to 1,024 tokens: within 5 %)
TILE_SIZE = 128
HOST = torch.device("cpu")  # of masks whose values are read


class SequenceGroup(NamedTuple):
    """Sequences that are computed together: the token indices of their queries and keys, which are real, and the tiles.

    One sequence alone is a slice, whose tokens need no gathering.
    """

    queries: TokenIndex
    real_queries: Bool[Tensor, "group queries"] | None
    keys: TokenIndex
    real_keys: Bool[Tensor, "group keys"] | None
    tiles: list[Tile]


def attention_groups(
    layout: PackedLayout, keys: PackedLayout, causal: bool, window: int | None, width: int = 1
) -> list[SequenceGroup]:
    """The groups of a batch, `width` being heads x d_head; cached on the layout, since every layer needs the same."""
    # keyed by the keys' layout itself, not by its id, which a later layout may reuse; None for `layout`: no cycle
    cache_key = (None if keys is layout else keys, causal, window, width)
    if cache_key not in layout.attention_groups:
        layout.attention_groups[cache_key] = [
            _sequence_group(layout, keys, group, causal, window) for group in layout.groups(MAX_GROUPED_SIZE // width)
        ]
    groups: list[SequenceGroup] = layout.attention_groups[cache_key]
    return groups


def _sequence_group(
    layout: PackedLayout, keys: PackedLayout, group: list[int], causal: bool, window: int | None
) -> SequenceGroup:
    if len(group) == 1:
        (index,) = group
        # alone: no padding, and no gathering of tokens
        n_queries = layout.lengths[index]
        mask = masks.layer_mask(n_queries, keys.lengths[index], causal, window, HOST)
        tiles = _tiles(n_queries, mask, None, None, layout.flat_index.device)
        return SequenceGroup(layout.token_slice(index), None, keys.token_slice(index), None, tiles)
    # (group, longest) token indices
    queries, real_queries = layout.group_indices(group)
    key_indices, real_keys = keys.group_indices(group)
    mask = masks.layer_mask(queries.shape[1], key_indices.shape[1], causal, window, HOST)
    # causal: padding is at the end, where no real query can see it
    tiles = _tiles(queries.shape[1], mask, None if causal else real_keys, real_queries, queries.device)
    return SequenceGroup(queries, real_queries, key_indices, real_keys, tiles)


def _tiles(
    queries: int,
    mask: Bool[Tensor, "queries keys"] | None,
    real_keys: Bool[Tensor, "group keys"] | None,
    real_queries: Bool[Tensor, "group queries"] | None,
    device: torch.device,
) -> list[Tile]:
    """Ranges of queries with the keys that `mask` allows any of them; without a mask one tile holds all."""
    if mask is None:
        allowed = None if real_keys is None else masks.expand_padding_mask(real_keys)
        return [_tile(slice(0, queries), slice(0, None), allowed, real_queries, device)]
    tiles = []
    # tiles of equal size
    size = math.ceil(queries / max(1, math.ceil(queries / TILE_SIZE)))
    for start in range(0, max(1, queries), max(1, size)):
        rows = slice(start, min(start + size, queries))
        # keys that some query of the tile may see: one range, for causal masks and bands alike
        visible = mask[rows].any(0).nonzero().flatten().tolist()
        columns = slice(visible[0], visible[-1] + 1) if visible else slice(0, 0)
        # (1, 1, tile, keys of the tile)
        allowed = mask[None, None, rows, columns]
        if real_keys is not None:
            allowed = allowed & masks.expand_padding_mask(real_keys[:, columns])
        tiles.append(_tile(rows, columns, allowed, None if real_queries is None else real_queries[:, rows], device))
    return tiles


def _tile(
    queries: slice,
    keys: slice,
    allowed: Bool[Tensor, "#group 1 #queries keys"] | None,
    real_queries: Bool[Tensor, "group queries"] | None,
    device: torch.device,
) -> Tile:
    if allowed is None:
        return Tile(queries, keys, None, None)
    fully_masked = ~allowed.any(-1, keepdim=True)
    # outputs of padded queries are never read, so they need no zeroing
    to_zero = fully_masked if real_queries is None else fully_masked & real_queries[:, None, :, None]
    # in a causal tile all queries see the first keys: the bias is added from the first masked key on
    masked_keys = (~allowed).flatten(0, 2).any(0).nonzero().flatten().tolist()
    bias = masks.additive_mask(allowed[..., masked_keys[0] :]).to(device) if masked_keys else None
    return Tile(queries, keys, bias, fully_masked.to(device) if to_zero.any() else None)


def attend_packed(
    q: Float[Tensor, "tokens heads d_key"],
    k: Float[Tensor, "sources heads d_key"],
    v: Float[Tensor, "sources heads d_head"],
    layout: PackedLayout,
    keys: PackedLayout,
    *,
    causal: bool = False,
    window: int | None = None,
    dropout: float = 0.0,
) -> Float[Tensor, "tokens heads d_head"]:
    """softmax(Q K^T / sqrt(d_key)) V, each sequence of `layout` against the same one of `keys`."""
    if kernels_of(q) == "cpu":
        # autograd of many small calls costs more than the products: one Function for the whole batch
        groups = attention_groups(layout, keys, causal, window, q.shape[1] * q.shape[2])
        return PackedAttentionFunction.apply(q, k, v, groups, dropout, torch.is_grad_enabled())
    return attend_unpacked(q, k, v, layout, keys, causal=causal, window=window, dropout=dropout)


def attend_unpacked(
    q: Float[Tensor, "tokens heads d_key"],
    k: Float[Tensor, "sources heads d_key"],
    v: Float[Tensor, "sources heads d_head"],
    layout: PackedLayout,
    keys: PackedLayout,
    *,
    causal: bool = False,
    window: int | None = None,
    dropout: float = 0.0,
) -> Float[Tensor, "tokens heads d_head"]:
    """The same in the padded layout by torch's fused kernel, which is fastest where it needs no mask."""
    # (batch, heads, seq, width)
    queries, key, value = (x_layout.unpack(x).transpose(1, 2) for x, x_layout in ((q, layout), (k, keys), (v, keys)))
    no_padding = len(keys.flat_index) == keys.batch * keys.seq
    # padding on the right is later than every real token: the causal mask hides it already
    no_key_mask = no_padding or keys.host_lengths is not None
    plain_causal = no_key_mask and causal and window is None and layout is keys
    allowed = None if no_padding or plain_causal else masks.expand_padding_mask(keys.padding_mask)
    mask = None if plain_causal else masks.layer_mask(layout.seq, keys.seq, causal, window, q.device)
    if mask is not None:
        allowed = mask if allowed is None else masks.with_own_position(allowed & mask)
    context = fused_attention(queries, key, value, allowed, dropout, is_causal=plain_causal)
    return layout.pack(context.transpose(1, 2))


class PackedAttentionFunction(torch.autograd.Function):
    """Equation 1 and its derivative, group by group and tile by tile.

    S = q k^T / sqrt(d_key), P = softmax(S), A = dropout(P), O = A V. Then dV = A^T dO, dP = dropout'(dO V^T),
    dS = P (dP - rowsum(P dP)), where rowsum(P dP) = rowsum(O dO); dQ = dS K / sqrt(d_key), dK = dS^T Q / sqrt(d_key).
    Of each tile P alone is saved for backward: a minus sign marks what was dropped.
    """

    @staticmethod
    def forward(
        ctx: Any,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        groups: list[SequenceGroup],
        dropout: float,
        grad_enabled: bool = True,
    ) -> Tensor:
        # every token is written once: no need for zeros
        out = q.new_empty(*q.shape[:2], v.shape[-1])
        scale = dropout_scale(dropout)
        saved: list[Tensor] = []
        needs_grad = grad_enabled and any(ctx.needs_input_grad)
        for group in groups:
            query, key, value = gather(q, group.queries), gather(k, group.keys), gather(v, group.keys)
            contexts = []
            # one softmax a tile: its keys hold all that its queries may see
            for tile in group.tiles:
                probs = tile_attn_weights(query[:, tile.queries], key[:, tile.keys], tile)
                # A without its scale, which the next product applies for free
                kept = sign_encode_dropped(probs, dropout) if dropout else probs
                contexts.append(product(kept, value[:, tile.keys], scale))
                if needs_grad:
                    saved.append(probs)
            scatter(out, group.queries, group.real_queries, concatenated(contexts))
        if needs_grad:
            ctx.save_for_backward(q, k, v, out, *saved)
            ctx.groups, ctx.dropout = groups, dropout
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, out, *saved = ctx.saved_tensors
        grad_q, grad_k, grad_v = (torch.empty(x.shape, dtype=x.dtype, device=x.device) for x in (q, k, v))
        inv_sqrt_d, scale = q.shape[-1] ** -0.5, dropout_scale(ctx.dropout)
        out_dot_grad = (grads[0] * out).sum(-1, keepdim=True)  # rowsum(O dO) = rowsum(P dP), for all tiles at once
        saved_probs = iter(saved)
        for group in ctx.groups:
            query, key, value = gather(q, group.queries), gather(k, group.keys), gather(v, group.keys)
            grad_out, row_sum = gather(grads[0], group.queries), gather(out_dot_grad, group.queries)
            if group.real_queries is not None:  # a padded query is a copy of a real token, which must not count twice
                real = group.real_queries.repeat_interleave(q.shape[1], 0)[..., None]
                grad_out, row_sum = grad_out * real, row_sum * real
            grad_query, grad_key, grad_value = [], TileSum(key, group.tiles), TileSum(value, group.tiles)
            for tile in group.tiles:
                probs, grad_tile = next(saved_probs), grad_out[:, tile.queries]
                kept = probs.clamp_min(0.0) if ctx.dropout else probs  # A without its scale: 0 where dropped
                # dV = A^T dO
                grad_value.add(tile, kept.transpose(1, 2), grad_tile, scale)
                # P dP, then dS = P dP - P rowsum; with dropout P itself is the saved value without its sign
                grad_scores = product(grad_tile, value[:, tile.keys].transpose(1, 2), scale).mul_(kept)
                probs = torch.abs(probs, out=kept) if ctx.dropout else probs
                grad_scores.addcmul_(probs, row_sum[:, tile.queries], value=-1.0)
                # dQ = dS K / sqrt(d_key), dK = dS^T Q / sqrt(d_key)
                grad_query.append(product(grad_scores, key[:, tile.keys], inv_sqrt_d))
                grad_key.add(tile, grad_scores.transpose(1, 2), query[:, tile.queries], inv_sqrt_d)
            scatter(grad_q, group.queries, group.real_queries, concatenated(grad_query))
            scatter(grad_k, group.keys, group.real_keys, grad_key.total)
            scatter(grad_v, group.keys, group.real_keys, grad_value.total)
        return grad_q, grad_k, grad_v, None, None, None
