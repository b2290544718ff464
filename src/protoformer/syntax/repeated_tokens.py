"""Random tokens, repeated: heads that copy need no labels.

Of a sequence r_1 ... r_n r_1 ... r_n of random tokens a decoder can only predict the second half by looking at the first.
Three kinds of heads do so together (Elhage et al. 2021, "A Mathematical Framework for Transformer Circuits"; Olsson et al.
2022, arXiv 2209.11895; duplicate tokens: Wang et al. 2022, arXiv 2211.00593). A head's score is its mean weight, from 0 to 1:

    previous token     from each token to the one before it
    duplicate token    from each token of the second half to the same one of the first
    induction          from each token of the second half to the one after the same one of the first, which comes next
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

PATTERNS = ("previous token", "duplicate token", "induction")


@dataclass(frozen=True)
class PatternScores:
    """Scores of each sequence and head, in the order of PATTERNS, and those of a head of equal weights."""

    scores: Float[Tensor, "patterns batch heads"]
    uniform: Float[Tensor, "patterns"]


def random_tokens(
    candidates: Int[Tensor, "ids"], sequences: int, length: int, seed: int = 0
) -> Int[Tensor, "sequences tokens"]:
    """Sequences of `length` distinct random tokens, twice each. Raises ValueError for fewer candidates than that."""
    if len(candidates) < length:
        raise ValueError(f"{len(candidates)} tokens: too few for {length} distinct ones")
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.stack([torch.randperm(len(candidates), generator=generator)[:length] for _ in range(sequences)])
    return candidates[drawn].repeat(1, 2)


def pattern_scores(weights: Float[Tensor, "batch heads seq seq"], before: int = 0) -> PatternScores:
    """Scores of weights over such a sequence that `before` other tokens precede."""
    seq = weights.shape[-1]
    length = (seq - before) // 2
    every, second = torch.arange(before + 1, seq), torch.arange(before + length, seq)
    pairs = [(every, every - 1), (second, second - length), (second, second - length + 1)]
    scores = torch.stack([weights[..., queries, keys].mean(dim=-1) for queries, keys in pairs])
    return PatternScores(scores, torch.stack([(1 / (queries + 1)).mean() for queries, _ in pairs]))
