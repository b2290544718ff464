"""Attention within each sequence of a packed batch.

On the CPU long sequences are taken one by one, and short ones of like length together as small rectangles; forward and
backward are written out, so that neither padding nor many small calls are paid for. Under a sequence mask or a band, queries
are taken in tiles, each against the keys alone that some of them may see: of a long sequence half the square, or the band.
Elsewhere the whole rectangle is rebuilt for the library's fused kernel; token-wise work stays packed all the same.
"""

import math
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from protoformer.blocks import masks
from protoformer.blocks.kernels.dropout import kept_scale, marked
from protoformer.blocks.kernels.packing import Packing

GROUPED = 1 << 14  # values of one sequence's queries up to which gathering costs less than a call for each sequence
TILE = (
    128  # queries: fewer waste less above the diagonal, more make fewer calls (T = 256 to 1,024, either is within 5 %)
)
Rows = slice | Int[Tensor, "group seq"]


class Tile(NamedTuple):
    """A stretch of a group's queries, and the keys that any of them may see.

    `bias` is added to the scores of the last keys, as many as it has: finite, so that a query that may see nothing gives
    zero gradients and not NaN. `blind` queries may attend to nothing (None: there are none that count).
    """

    queries: slice
    keys: slice
    bias: Float[Tensor, "#group 1 #queries masked"] | None
    blind: Bool[Tensor, "#group 1 #queries 1"] | None


class Block(NamedTuple):
    """A group of sequences: where its queries and keys stand, which of them are real, and its tiles.

    One sequence alone is a slice, whose tokens need no gathering.
    """

    queries: Rows
    real_queries: Bool[Tensor, "group queries"] | None
    keys: Rows
    real_keys: Bool[Tensor, "group keys"] | None
    tiles: list[Tile]


def blocks(layout: Packing, keys: Packing, causal: bool, window: int | None, width: int = 1) -> list[Block]:
    """The groups of a batch, `width` being heads x d_head; kept, since every layer of a stack asks for the same."""
    # the keys' layout itself, never its id, which a later layout may get; not `layout` in its own cache, a cycle
    asked = (None if keys is layout else keys, causal, window, width)
    if asked not in layout.blocks:
        layout.blocks[asked] = [
            _block(layout, keys, group, causal, window) for group in layout.groups(GROUPED // width)
        ]
    made: list[Block] = layout.blocks[asked]
    return made


def _block(layout: Packing, keys: Packing, group: list[int], causal: bool, window: int | None) -> Block:
    if len(group) == 1:
        one = group[0]
        pattern = masks.pattern(layout.lengths[one], keys.lengths[one], causal, window)
        return Block(layout.place(one), None, keys.place(one), None, _tiles(layout.lengths[one], pattern, None, None))
    queries, real_queries = layout.block(group)
    key_places, real_keys = keys.block(group)
    pattern = masks.pattern(queries.shape[1], key_places.shape[1], causal, window)
    # under a sequence mask no real query comes to what stands in for tokens at the end
    tiles = _tiles(queries.shape[1], pattern, None if causal else real_keys, real_queries)
    return Block(queries, real_queries, key_places, real_keys, tiles)


def _tiles(
    queries: int,
    pattern: Bool[Tensor, "queries keys"] | None,
    real_keys: Bool[Tensor, "group keys"] | None,
    real_queries: Bool[Tensor, "group queries"] | None,
) -> list[Tile]:
    """Without a pattern one tile: no query has fewer keys than another."""
    if pattern is None:
        allowed = None if real_keys is None else masks.padding(real_keys)
        return [_tile(slice(0, queries), slice(0, None), allowed, real_queries)]
    tiles = []
    size = math.ceil(queries / max(1, math.ceil(queries / TILE)))
    for start in range(0, max(1, queries), max(1, size)):
        rows = slice(start, min(start + size, queries))
        seen = pattern[rows].any(0).nonzero().flatten().tolist()
        columns = slice(seen[0], seen[-1] + 1) if seen else slice(0, 0)
        allowed = pattern[None, None, rows, columns]
        if real_keys is not None:
            allowed = allowed & masks.padding(real_keys[:, columns])
        tiles.append(_tile(rows, columns, allowed, None if real_queries is None else real_queries[:, rows]))
    return tiles


def _tile(
    queries: slice,
    keys: slice,
    allowed: Bool[Tensor, "#group 1 #queries keys"] | None,
    real_queries: Bool[Tensor, "group queries"] | None,
) -> Tile:
    if allowed is None:
        return Tile(queries, keys, None, None)
    blind = ~allowed.any(-1, keepdim=True)
    counted = blind if real_queries is None else blind & real_queries[:, None, :, None]  # only real ones are read
    partly = (~allowed).flatten(0, 2).any(0).nonzero().flatten().tolist()
    bias = masks.bias(allowed[..., partly[0] :]) if partly else None
    return Tile(queries, keys, bias, blind if counted.any() else None)


def attend_packed(
    q: Float[Tensor, "tokens heads d_key"],
    k: Float[Tensor, "sources heads d_key"],
    v: Float[Tensor, "sources heads d_head"],
    layout: Packing,
    keys: Packing,
    *,
    causal: bool = False,
    window: int | None = None,
    dropout: float = 0.0,
) -> Float[Tensor, "tokens heads d_head"]:
    """softmax(Q K^T / sqrt(d_key)) V, each sequence of `layout` against the same one of `keys`."""
    if q.device.type == "cpu":
        groups = blocks(layout, keys, causal, window, q.shape[1] * q.shape[2])
        return GroupedAttention.apply(q, k, v, groups, dropout, torch.is_grad_enabled())
    return attend_rebuilt(q, k, v, layout, keys, causal=causal, window=window, dropout=dropout)


def attend_rebuilt(
    q: Float[Tensor, "tokens heads d_key"],
    k: Float[Tensor, "sources heads d_key"],
    v: Float[Tensor, "sources heads d_head"],
    layout: Packing,
    keys: Packing,
    *,
    causal: bool = False,
    window: int | None = None,
    dropout: float = 0.0,
) -> Float[Tensor, "tokens heads d_head"]:
    """The same on the whole rectangle by the library's kernel, which is at its fastest where it needs no mask."""
    queries, key, value = (
        which.unpack(x).transpose(1, 2) for x, which in ((q, layout), (k, keys), (v, keys))
    )  # batch heads seq width
    full = len(keys.index) == keys.batch * keys.seq
    whole = full and causal and window is None and layout is keys
    allowed = None if full else masks.padding(keys.padding_mask)
    pattern = None if whole else masks.pattern(layout.seq, keys.seq, causal, window, q.device)
    if pattern is not None:
        allowed = pattern if allowed is None else allowed & pattern
    mixed = functional.scaled_dot_product_attention(
        queries, key, value, attn_mask=allowed, dropout_p=dropout, is_causal=whole
    )
    return layout.pack(mixed.transpose(1, 2))


class GroupedAttention(torch.autograd.Function):
    """The formula of equation 1 and its derivative, group by group and tile by tile.

    With weights A = dropout(P), P = softmax(S), S = q k^T c, O = A V: dV = A^T dO, dP = dropout'(dO V^T),
    dS = P dP - P rowsum(P dP), where rowsum(P dP) = rowsum(A dO V^T) = rowsum(O dO); dQ = c dS K, dK = c dS^T Q.
    What is kept for backward is P alone: a minus sign tells what was dropped.
    """

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, groups: list[Block], dropout: float, graph: bool = True
    ) -> Tensor:
        out = q.new_empty(*q.shape[:2], v.shape[-1])
        worth = kept_scale(dropout)
        saved: list[Tensor] = []
        training = graph and any(ctx.needs_input_grad)
        for block in groups:
            query, key, value = _take(q, block.queries), _take(k, block.keys), _take(v, block.keys)
            pieces = []
            for tile in block.tiles:
                share = _shares(query[:, tile.queries], key[:, tile.keys], tile)
                kept = marked(share, dropout) if dropout else share
                pieces.append(_product(kept, value[:, tile.keys], worth))
                if training:
                    saved.append(share)
            _put(out, block.queries, block.real_queries, _joined(pieces))
        if training:
            ctx.save_for_backward(q, k, v, out, *saved)
            ctx.groups, ctx.dropout = groups, dropout
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, out, *saved = ctx.saved_tensors
        grad_q, grad_k, grad_v = (torch.empty(x.shape, dtype=x.dtype) for x in (q, k, v))
        scale, worth = q.shape[-1] ** -0.5, kept_scale(ctx.dropout)
        common = (grads[0] * out).sum(-1, keepdim=True)
        shares = iter(saved)
        for block in ctx.groups:
            query, key, value = _take(q, block.queries), _take(k, block.keys), _take(v, block.keys)
            grad_out, shared = _take(grads[0], block.queries), _take(common, block.queries)
            if block.real_queries is not None:  # a padded query stands on a real token's place: it must not count twice
                real = block.real_queries.repeat_interleave(q.shape[1], 0)[..., None]
                grad_out, shared = grad_out * real, shared * real
            to_query, to_key, to_value = [], _Sum(key, block.tiles), _Sum(value, block.tiles)
            for tile in block.tiles:
                share, own = next(shares), grad_out[:, tile.queries]
                kept = share.clamp_min(0.0) if ctx.dropout else share
                to_value.add(tile, kept.transpose(1, 2), own, worth)
                slope = _product(own, value[:, tile.keys].transpose(1, 2), worth).mul_(kept)
                whole = torch.abs(share, out=kept) if ctx.dropout else share
                slope.addcmul_(whole, shared[:, tile.queries], value=-1.0)
                to_query.append(_product(slope, key[:, tile.keys], scale))
                to_key.add(tile, slope.transpose(1, 2), query[:, tile.queries], scale)
            _put(grad_q, block.queries, block.real_queries, _joined(to_query))
            _put(grad_k, block.keys, block.real_keys, to_key.total)
            _put(grad_v, block.keys, block.real_keys, to_value.total)
        return grad_q, grad_k, grad_v, None, None, None


class _Sum:
    """Over tiles, of products that each belong to the tile's keys."""

    def __init__(self, like: Float[Tensor, "rows keys d_head"], tiles: list[Tile]) -> None:
        self.alone = len(tiles) == 1
        self.total = like if self.alone else torch.zeros_like(like)

    def add(self, tile: Tile, a: Tensor, b: Tensor, factor: float) -> None:
        if self.alone:
            self.total = _product(a, b, factor)
        else:
            self.total[:, tile.keys].baddbmm_(a, b, alpha=factor)


def _product(
    a: Float[Tensor, "rows n inner"], b: Float[Tensor, "rows inner m"], factor: float
) -> Float[Tensor, "rows n m"]:
    """factor a b, of which the factor costs nothing."""
    return torch.baddbmm(a.new_empty(()), a, b, beta=0, alpha=factor)


def _shares(
    query: Float[Tensor, "rows queries d_key"], key: Float[Tensor, "rows keys d_key"], tile: Tile
) -> Float[Tensor, "rows queries keys"]:
    """The softmax over a tile's keys; a row is one head of one sequence."""
    scores = _product(query, key.transpose(1, 2), query.shape[-1] ** -0.5)
    if tile.bias is not None:
        by_sequence = scores.unflatten(0, (len(tile.bias), -1))
        by_sequence[..., scores.shape[2] - tile.bias.shape[3] :].add_(tile.bias)
    torch.softmax(scores, -1, out=scores)
    if tile.blind is not None:
        scores.unflatten(0, (len(tile.blind), -1)).masked_fill_(tile.blind, 0.0)
    return scores


def _joined(pieces: list[Float[Tensor, "rows _ d_head"]]) -> Float[Tensor, "rows queries d_head"]:
    return pieces[0] if len(pieces) == 1 else torch.cat(pieces, 1)


def _take(x: Float[Tensor, "tokens heads d_head"], rows: Rows) -> Float[Tensor, "rows seq d_head"]:
    """A row is one head of one sequence."""
    if isinstance(rows, slice):
        return x[rows].transpose(0, 1)
    by_token = x.index_select(0, rows.flatten()).view(*rows.shape, *x.shape[1:])
    return by_token.transpose(1, 2).flatten(0, 1)


def _put(
    x: Float[Tensor, "tokens heads d_head"], rows: Rows, real: Tensor | None, values: Float[Tensor, "rows seq d_head"]
) -> None:
    if isinstance(rows, slice):
        x[rows] = values.transpose(0, 1)
        return
    by_token = values.unflatten(0, (len(rows), -1)).transpose(1, 2)
    if real is None:
        x.index_copy_(0, rows.flatten(), by_token.flatten(0, 1))
    else:
        x.index_copy_(0, rows[real], by_token[real])
