"""Beam search: the likeliest of many ways to go on, of which the best few are kept at every step.

A way that ends is scored by its log-probability over a penalty for its length, its end included: len^alpha (`power`), or
((5 + len) / 6)^alpha (`gnmt`: arXiv 1609.08144, section 7, as in arXiv 1706.03762, section 6.1). Every step looks at the
best 2 x `beams` ways to go on; those that end count if they are among the first `beams`, and the best others live on.
"""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from protoformer.decoding.session import Reader
from protoformer.errors import ConfigurationError

LengthPenalty = Literal["power", "gnmt"]
MOST = 1000  # beams
Stopping = Literal["first", "best_possible", "exhaustive"]


@dataclass(frozen=True)
class Beam:
    """`stopping`: when a text's search is over, once `beams` ways have ended. `first`: then; `best_possible`: when no living
    way scores better than the worst of them at its length so far; `exhaustive`: nor would at the greatest length."""

    beams: int = 4
    length_penalty: LengthPenalty = "power"
    alpha: float = 1.0
    stopping: Stopping = "best_possible"

    def __post_init__(self) -> None:
        if self.beams < 1:
            raise ConfigurationError(f"beams={self.beams}: at least 1")
        if self.beams > MOST:
            raise ConfigurationError(
                f"beams={self.beams}: at most {MOST:,}, each of which keeps its own keys and values"
            )
        if not math.isfinite(self.alpha):
            raise ConfigurationError(f"alpha={self.alpha}: a number")

    def penalty(self, length: int) -> float:
        return float(length**self.alpha if self.length_penalty == "power" else ((5 + length) / 6) ** self.alpha)


class Ended(NamedTuple):
    """A way that has ended: its new tokens, the one that ended it among them, and its score."""

    tokens: list[int]
    score: float


@dataclass
class Search:
    """One text's search: living ways, the best first, and the best that have ended."""

    number: int
    living: list[list[int]] = field(default_factory=lambda: [[]])
    ended: list[Ended] = field(default_factory=list)


@torch.no_grad()
def search(
    reader: Reader,
    logits: Float[Tensor, "texts vocab"],
    *,
    max_new: int | Sequence[int],
    end: Collection[int],
    beam: Beam,
) -> list[list[Ended]]:
    """The best ways to go on with each text, up to `beams`, the best first.

    `reader` has read the texts, a row each, and said `logits`; it is used up. A way of `max_new` tokens (of each text, where
    they are many) has ended. A text whose search is over leaves the batch.
    """
    texts, vocab = logits.shape
    limits = [max_new] * texts if isinstance(max_new, int) else list(max_new)
    if min(limits, default=1) < 1:
        raise ConfigurationError("max_new: at least one token")
    ends = torch.tensor(sorted(end), dtype=torch.long, device=logits.device)
    searches = [Search(number) for number in range(texts)]
    found: list[list[Ended]] = [[] for _ in range(texts)]
    scores = torch.zeros(texts, 1, device=logits.device)  # of living ways
    length = 0
    while searches:
        length += 1
        ways = scores.shape[1]
        every = scores[:, :, None] + logits.float().log_softmax(-1).view(len(searches), ways, vocab)
        best, places = every.flatten(1).topk(min(max(2, 1 + len(ends)) * beam.beams, ways * vocab))
        tokens = places % vocab
        over = (
            torch.isin(tokens, ends)
            | torch.tensor([length >= limits[s.number] for s in searches], device=best.device)[:, None]
        )
        picked, origins, scores = _advance(searches, best, places // vocab, tokens, over, beam, length)
        going = [
            place
            for place, one in enumerate(searches)
            if not _is_over(one, float(scores[place, 0]), beam, length, limits)
        ]
        for place, one in enumerate(searches):
            if place not in going:
                found[one.number] = one.ended
        if not going:
            return found
        kept = torch.tensor(going, device=best.device)
        searches = [searches[place] for place in going]
        rows = (origins + ways * torch.arange(len(origins), device=best.device)[:, None])[kept]
        scores, picked = scores[kept], picked[kept]
        reader.select(rows.flatten())
        logits = reader.read(picked.flatten()[:, None])
    return found


def _advance(
    searches: list[Search], best: Tensor, origins: Tensor, tokens: Tensor, over: Tensor, beam: Beam, length: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Ways that end are kept where they are good enough; the best others live on: their last token, the way that they
    come from, and their scores."""
    penalty = beam.penalty(length)
    for one, row, origin, token, ending in zip(
        searches, best.tolist(), origins.tolist(), tokens.tolist(), over.tolist(), strict=True
    ):
        for score, way, last, ends in list(zip(row, origin, token, ending, strict=True))[: beam.beams]:
            if ends and score > -float("inf"):
                one.ended.append(Ended([*one.living[way], last], score / penalty))
        one.ended = sorted(one.ended, key=lambda way: -way.score)[: beam.beams]
    alive = best.masked_fill(over, -torch.inf)
    scores, order = alive.topk(min(beam.beams, alive.shape[1]))
    picked, origins = tokens.gather(1, order), origins.gather(1, order)
    for one, way, last in zip(searches, origins.tolist(), picked.tolist(), strict=True):
        one.living = [[*one.living[w], t] for w, t in zip(way, last, strict=True)]
    return picked, origins, scores


def _is_over(one: Search, score: float, beam: Beam, length: int, limits: Sequence[int]) -> bool:
    limit = limits[one.number]
    if length >= limit or score == -float("inf"):
        return True
    if len(one.ended) < beam.beams:
        return False
    if beam.stopping == "first":
        return True
    at = limit if beam.stopping == "exhaustive" and beam.alpha > 0 else length
    return score / beam.penalty(at) <= one.ended[-1].score
