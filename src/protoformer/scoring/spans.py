"""From scores of positions to answers (arXiv 1810.04805, section 4.2): n-best spans over all windows of a question.

A span's score is the sum of its start's and its end's logit; no answer's is that of the null position, the lowest of all
windows.
What a window leaves behind is its best few spans, so that a whole dev set takes a few megabytes, never its logits.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

IMPOSSIBLE = -1e30


@dataclass(frozen=True)
class Candidates:
    """The best spans of each window, the best first: positions in the window and their logits (IMPOSSIBLE where there are
    fewer); and the logits of the null position."""

    start: Int[Tensor, "windows best"]
    end: Int[Tensor, "windows best"]
    start_logit: Float[Tensor, "windows best"]
    end_logit: Float[Tensor, "windows best"]
    null_start: Float[Tensor, "windows"]
    null_end: Float[Tensor, "windows"]

    @property
    def score(self) -> Float[Tensor, "windows best"]:
        return (self.start_logit + self.end_logit).clamp(min=IMPOSSIBLE)


def candidates(
    start_logits: Float[Tensor, "windows seq"],
    end_logits: Float[Tensor, "windows seq"],
    may_start: Bool[Tensor, "windows seq"],
    may_end: Bool[Tensor, "windows seq"],
    null_position: Int[Tensor, "windows"],
    *,
    n_best: int = 20,
    max_answer: int = 30,
) -> Candidates:
    """The `n_best` spans of at most `max_answer` tokens whose start and end are each among the `n_best` most likely."""
    few = min(n_best, start_logits.shape[1])
    start_scores, starts = start_logits.masked_fill(~may_start, IMPOSSIBLE).topk(few, dim=1)
    end_scores, ends = end_logits.masked_fill(~may_end, IMPOSSIBLE).topk(few, dim=1)
    length = ends[:, None, :] - starts[:, :, None] + 1
    score = start_scores[:, :, None] + end_scores[:, None, :]
    score = score.masked_fill((length < 1) | (length > max_answer), IMPOSSIBLE).clamp(min=IMPOSSIBLE)
    score = score.masked_fill(
        (start_scores[:, :, None] <= IMPOSSIBLE) | (end_scores[:, None, :] <= IMPOSSIBLE), IMPOSSIBLE
    )
    best, place = score.flatten(1).topk(min(n_best, few * few), dim=1)
    first, last, impossible = place // few, place % few, best <= IMPOSSIBLE
    null = null_position[:, None]
    return Candidates(
        starts.gather(1, first),
        ends.gather(1, last),
        start_scores.gather(1, first).masked_fill(impossible, IMPOSSIBLE),
        end_scores.gather(1, last).masked_fill(impossible, IMPOSSIBLE),
        start_logits.gather(1, null)[:, 0],
        end_logits.gather(1, null)[:, 0],
    )


@dataclass(frozen=True)
class Answer:
    """A piece of the context (empty: no answer), the logits of its start and end, and its share among the n-best."""

    text: str
    start_logit: float
    end_logit: float
    probability: float = 0.0

    @property
    def score(self) -> float:
        return self.start_logit + self.end_logit


def n_best(spans: Sequence[Answer], null: Answer | None, limit: int = 20) -> list[Answer]:
    """The best different texts, and `null` among them; never empty."""
    found: dict[str, Answer] = {}
    for span in sorted(spans, key=lambda span: -span.score):
        if span.score > IMPOSSIBLE and span.text and len(found) < limit:
            found.setdefault(span.text, span)
    if null is not None or not found:
        found[""] = null or Answer("", 0.0, 0.0)
    shares = torch.tensor([answer.score for answer in found.values()], dtype=torch.float64).softmax(0).tolist()
    answers = [replace(answer, probability=share) for answer, share in zip(found.values(), shares, strict=True)]
    return sorted(answers, key=lambda answer: -answer.score)


def null_odds(answers: Sequence[Answer]) -> float:
    """How much more no answer scores than the best answer; without any answer to give, infinitely more.

    In single precision, as the scores are: a threshold that is one of them is then written down as it is, wherever.
    """
    null = next((answer.score for answer in answers if not answer.text), None)
    best = max((answer.score for answer in answers if answer.text), default=None)
    if best is None:
        return float("inf")
    return float("-inf") if null is None else float(np.float32(null - best))


def chosen(answers: Mapping[str, Sequence[Answer]], threshold: float | None) -> dict[str, str]:
    """Each question's answer: its best text, or none where the odds of no answer exceed `threshold` (None: always a text)."""
    given = {}
    for name, found in answers.items():
        best = next((answer.text for answer in found if answer.text), "")
        given[name] = best if threshold is None or null_odds(found) <= threshold else ""
    return given
