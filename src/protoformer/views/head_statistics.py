"""What a head of attention looks at, as one number a head.

Each is a mean over the queries of one text, of weights that sum to one over the keys. The heads that follow the previous
token, the next one or the separators are those that Clark et al. 2019 (arXiv 1906.04341, section 3) find in BERT so.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

Weights = Float[Tensor, "layers heads queries keys"]
PerHead = Float[Tensor, "layers heads"]


class HeadNumbers(NamedTuple):
    """One number a head; None where it means nothing: neighbours in another sequence, special tokens where there are none."""

    entropy: PerHead  # bits
    first: PerHead  # share, 0 to 1, as all that follow but the distance
    special: PerHead | None
    distance: PerHead | None  # tokens
    itself: PerHead | None
    previous: PerHead | None
    following: PerHead | None


def head_numbers(weights: Weights, special: Bool[Tensor, "keys"], *, crosses: bool = False) -> HeadNumbers:
    """All numbers of weights between real tokens (padding left out); `special` names the separators among the keys.

    `crosses` says that queries and keys are two sequences.
    """
    first = torch.zeros_like(special)
    first[:1] = True
    return HeadNumbers(
        entropy=entropy(weights),
        first=share(weights, first),
        special=share(weights, special) if special.any() else None,
        distance=None if crosses else mean_distance(weights),
        itself=None if crosses else at_offset(weights, 0),
        previous=None if crosses else at_offset(weights, -1),
        following=None if crosses else at_offset(weights, 1),
    )


def entropy(weights: Weights) -> PerHead:
    """Mean over queries i of -sum_j w_ij log2 w_ij, in bits: 0 for one key, log2 n for n keys alike."""
    return -torch.special.xlogy(weights, weights).sum(-1).mean(-1) / torch.log(torch.tensor(2.0))


def mean_distance(weights: Weights) -> PerHead:
    """Mean over queries i of sum_j w_ij |i - j|, in tokens."""
    return (weights * _apart(weights).abs()).sum(-1).mean(-1)


def share(weights: Weights, chosen: Bool[Tensor, "keys"]) -> PerHead:
    """Mean over queries of the weight on the chosen keys, together."""
    return (weights * chosen).sum(-1).mean(-1)


def at_offset(weights: Weights, offset: int) -> PerHead:
    """Mean of w[i, i + offset] over the queries i that have such a key; not a number where none has."""
    return torch.diagonal(weights, offset, -2, -1).mean(-1)


def strongest(numbers: PerHead, count: int) -> list[tuple[int, int, float]]:
    """The `count` heads of the largest numbers, as (layer, head, number); what is not a number comes last."""
    flat = numbers.flatten().nan_to_num(-1.0)
    values, places = flat.topk(min(count, len(flat)))
    heads = numbers.shape[1]
    return [(p // heads, p % heads, v) for p, v in zip(places.tolist(), values.tolist(), strict=True)]


def _apart(weights: Weights) -> Int[Tensor, "queries keys"]:
    """How far each key stands behind (or, below zero, before) each query."""
    queries, keys = weights.shape[-2:]
    return torch.arange(keys) - torch.arange(queries)[:, None]
