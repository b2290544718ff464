"""Statistics of attention heads: what each head attends to, as one number a head.

Each is a mean over the queries of one text; a query's attention weights sum to one over the keys. Heads that attend to the
previous token, the next token or the separators are those found in BERT by Clark et al. 2019 (arXiv 1906.04341, section 3).
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

Weights = Float[Tensor, "layers heads queries keys"]
PerHead = Float[Tensor, "layers heads"]


class HeadStatistics(NamedTuple):
    """One number a head. None where it is not defined: offsets between two sequences, special tokens in a text without any.

    `entropy` is in bits and `distance` in tokens; the others are attention weights, from 0 to 1.
    """

    entropy: PerHead
    first: PerHead  # on the first token
    special: PerHead | None  # on special tokens
    distance: PerHead | None
    current: PerHead | None  # on the token itself
    previous: PerHead | None
    next: PerHead | None


def head_statistics(
    weights: Weights, special: Bool[Tensor, "keys"], *, cross_attention: bool = False
) -> HeadStatistics:
    """All statistics of the weights between real tokens (without padding). `special` marks the special tokens of the keys.

    With `cross_attention` queries and keys are two sequences, between which there are no offsets.
    """
    first = torch.zeros_like(special)
    first[:1] = True
    return HeadStatistics(
        entropy=entropy(weights),
        first=weight_on(weights, first),
        special=weight_on(weights, special) if special.any() else None,
        distance=None if cross_attention else mean_distance(weights),
        current=None if cross_attention else weight_at_offset(weights, 0),
        previous=None if cross_attention else weight_at_offset(weights, -1),
        next=None if cross_attention else weight_at_offset(weights, 1),
    )


def entropy(weights: Weights) -> PerHead:
    """Mean over queries i of -sum_j w_ij log2 w_ij, in bits: 0 for one key, log2 n for n equal weights."""
    return -torch.special.xlogy(weights, weights).sum(-1).mean(-1) / torch.log(torch.tensor(2.0))


def mean_distance(weights: Weights) -> PerHead:
    """Mean over queries i of sum_j w_ij |i - j|, in tokens."""
    return (weights * _offsets(weights).abs()).sum(-1).mean(-1)


def weight_on(weights: Weights, selected: Bool[Tensor, "keys"]) -> PerHead:
    """Mean over queries of the total weight on the selected keys."""
    return (weights * selected).sum(-1).mean(-1)


def weight_at_offset(weights: Weights, offset: int) -> PerHead:
    """Mean of w[i, i + offset] over the queries i that have such a key; NaN where none has."""
    return torch.diagonal(weights, offset, -2, -1).mean(-1)


def telling_head(weights: Weights, special: Bool[Tensor, "keys"], *, cross_attention: bool = False) -> tuple[int, int]:
    """Layer and head whose queries attend most to one token of the text: no special token, not the first one, not themselves.

    Heads on the diagonal, on separators and on the first token are found in every model, and say little about a text.
    """
    content = weights.masked_fill(special, 0.0)
    if not cross_attention:
        own = torch.eye(*weights.shape[-2:], dtype=torch.bool)
        content = content.masked_fill(own, 0.0).index_fill(-1, torch.tensor([0]), 0.0)
    strongest = content.amax(-1).mean(-1)  # (layers, heads)
    return divmod(int(strongest.nan_to_num(0.0).argmax()), weights.shape[1])


def top_heads(statistic: PerHead, count: int) -> list[tuple[int, int, float]]:
    """The `count` heads of the largest values, as (layer, head, value); NaN comes last."""
    flat = statistic.flatten().nan_to_num(-1.0)
    values, indices = flat.topk(min(count, len(flat)))
    heads = statistic.shape[1]
    return [
        (index // heads, index % heads, value) for index, value in zip(indices.tolist(), values.tolist(), strict=True)
    ]


def _offsets(weights: Weights) -> Int[Tensor, "queries keys"]:
    """j - i of each query i and key j."""
    queries, keys = weights.shape[-2:]
    return torch.arange(keys) - torch.arange(queries)[:, None]
