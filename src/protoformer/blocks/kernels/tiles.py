"""Products over tiles of queries and keys, and tokens gathered into rows and scattered back, for packed attention."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

TokenIndex = slice | Int[Tensor, "group seq"]


class Tile(NamedTuple):
    """A range of a group's queries, and the range of keys that any of them may see.

    `bias` is added to the scores of the tile's last `masked` keys: finite, so that a query that may see nothing has zero
    gradients and not NaN. `fully_masked` queries may attend to nothing (None: no real query is such).
    """

    queries: slice
    keys: slice
    bias: Float[Tensor, "#group 1 #queries masked"] | None
    fully_masked: Bool[Tensor, "#group 1 #queries 1"] | None


class TileSum:
    """A sum over tiles of matrix products, each added at the tile's keys."""

    def __init__(self, like: Float[Tensor, "rows keys d_head"], tiles: list[Tile]) -> None:
        self.single = len(tiles) == 1  # then the product itself is the sum
        self.total = like if self.single else torch.zeros_like(like)

    def add(self, tile: Tile, a: Tensor, b: Tensor, factor: float) -> None:
        # no zeros to add to
        if self.single:
            self.total = product(a, b, factor)
        else:
            self.total[:, tile.keys].baddbmm_(a, b, alpha=factor)


def product(
    a: Float[Tensor, "rows n inner"], b: Float[Tensor, "rows inner m"], factor: float
) -> Float[Tensor, "rows n m"]:
    """factor a b in one call: the factor is free inside the matrix product."""
    return torch.baddbmm(a.new_empty(()), a, b, beta=0, alpha=factor)


def tile_attn_weights(
    query: Float[Tensor, "rows queries d_key"], key: Float[Tensor, "rows keys d_key"], tile: Tile
) -> Float[Tensor, "rows queries keys"]:
    """softmax(Q K^T / sqrt(d_key)) over a tile's keys; `rows` are the heads of the group's sequences."""
    scores = product(query, key.transpose(1, 2), query.shape[-1] ** -0.5)
    if tile.bias is not None:
        by_sequence = scores.unflatten(0, (len(tile.bias), -1))  # (group, heads, queries, keys)
        by_sequence[..., scores.shape[2] - tile.bias.shape[3] :].add_(tile.bias)
    # in place: scores are not needed again
    torch.softmax(scores, -1, out=scores)
    if tile.fully_masked is not None:
        scores.unflatten(0, (len(tile.fully_masked), -1)).masked_fill_(tile.fully_masked, 0.0)
    return scores


def concatenated(parts: list[Float[Tensor, "rows _ d_head"]]) -> Float[Tensor, "rows queries d_head"]:
    """The queries of all tiles, one after another."""
    return parts[0] if len(parts) == 1 else torch.cat(parts, 1)


def gather(x: Float[Tensor, "tokens heads d_head"], index: TokenIndex) -> Float[Tensor, "rows seq d_head"]:
    """(tokens, heads, d_head) -> (sequences x heads, seq, d_head)."""
    if isinstance(index, slice):
        return x[index].transpose(0, 1)
    # (group, seq, heads, d_head), padding filled with copies of some real token
    by_token = x.index_select(0, index.flatten()).view(*index.shape, *x.shape[1:])
    return by_token.transpose(1, 2).flatten(0, 1)


def scatter(
    x: Float[Tensor, "tokens heads d_head"],
    index: TokenIndex,
    real: Tensor | None,
    values: Float[Tensor, "rows seq d_head"],
) -> None:
    """The inverse of `gather`, into `x`; of a padded group the real tokens alone."""
    if isinstance(index, slice):
        x[index] = values.transpose(0, 1)
        return
    by_token = values.unflatten(0, (len(index), -1)).transpose(1, 2)
    if real is None:
        # no padding in the group
        x.index_copy_(0, index.flatten(), by_token.flatten(0, 1))
    else:
        x.index_copy_(0, index[real], by_token[real])
