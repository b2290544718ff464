"""N-best span decoding: from the logits of starts and ends to answers (arXiv 1810.04805, sections 4.2 and 4.3).

The score of a span from token i to token j, j >= i, is S.T_i + E.T_j: the start logit of i plus the end logit of j. No answer
scores s_null = S.C + E.C, the logits at the null position; over several windows of a question the lowest counts. No answer is
given where s_null exceeds the best span's score by more than a threshold tau.

Only the best few spans of each window are kept, so that a whole development set takes a few megabytes, not its logits.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

NEG_INF = -1e30  # score of a span that cannot be; finite, so that sums of it are no nan


@dataclass(frozen=True)
class SpanCandidates:
    """The best spans of each window, best first: positions in the window and their logits (NEG_INF where there are fewer
    spans), and the logits at the null position."""

    start: Int[Tensor, "windows best"]
    end: Int[Tensor, "windows best"]
    start_logit: Float[Tensor, "windows best"]
    end_logit: Float[Tensor, "windows best"]
    null_start: Float[Tensor, "windows"]
    null_end: Float[Tensor, "windows"]

    @property
    def score(self) -> Float[Tensor, "windows best"]:
        return (self.start_logit + self.end_logit).clamp(min=NEG_INF)


def candidates(
    start_logits: Float[Tensor, "windows seq"],
    end_logits: Float[Tensor, "windows seq"],
    may_start: Bool[Tensor, "windows seq"],
    may_end: Bool[Tensor, "windows seq"],
    null_position: Int[Tensor, "windows"],
    *,
    n_best: int = 20,
    max_answer: int = 30,
) -> SpanCandidates:
    """The `n_best` spans of at most `max_answer` tokens whose start and end are each among the `n_best` most likely."""
    k = min(n_best, start_logits.shape[1])
    start_scores, starts = start_logits.masked_fill(~may_start, NEG_INF).topk(k, dim=1)  # (windows, k)
    end_scores, ends = end_logits.masked_fill(~may_end, NEG_INF).topk(k, dim=1)
    # all pairs of a start and an end: (windows, k starts, k ends)
    length = ends[:, None, :] - starts[:, :, None] + 1
    score = start_scores[:, :, None] + end_scores[:, None, :]
    score = score.masked_fill((length < 1) | (length > max_answer), NEG_INF).clamp(min=NEG_INF)
    # a position that may be no start or no end stays impossible, however large the other logit
    score = score.masked_fill((start_scores[:, :, None] <= NEG_INF) | (end_scores[:, None, :] <= NEG_INF), NEG_INF)
    best_scores, pair = score.flatten(1).topk(min(n_best, k * k), dim=1)
    start_index, end_index, impossible = pair // k, pair % k, best_scores <= NEG_INF
    null = null_position[:, None]
    return SpanCandidates(
        starts.gather(1, start_index),
        ends.gather(1, end_index),
        start_scores.gather(1, start_index).masked_fill(impossible, NEG_INF),
        end_scores.gather(1, end_index).masked_fill(impossible, NEG_INF),
        start_logits.gather(1, null)[:, 0],
        end_logits.gather(1, null)[:, 0],
    )


@dataclass(frozen=True)
class Answer:
    """A span of the context as text (empty: no answer), its start and end logits, and its probability among the n-best."""

    text: str
    start_logit: float
    end_logit: float
    probability: float = 0.0

    @property
    def score(self) -> float:
        return self.start_logit + self.end_logit


def n_best(spans: Sequence[Answer], null: Answer | None, limit: int = 20) -> list[Answer]:
    """The best `limit` different texts, and `null` among them, best first; never empty.

    Their probabilities are a softmax of their scores.
    """
    by_text: dict[str, Answer] = {}
    for span in sorted(spans, key=lambda span: -span.score):
        if span.score > NEG_INF and span.text and len(by_text) < limit:
            by_text.setdefault(span.text, span)
    if null is not None or not by_text:
        by_text[""] = null or Answer("", 0.0, 0.0)
    probabilities = torch.tensor([answer.score for answer in by_text.values()], dtype=torch.float64).softmax(0).tolist()
    answers = [replace(answer, probability=p) for answer, p in zip(by_text.values(), probabilities, strict=True)]
    return sorted(answers, key=lambda answer: -answer.score)


def null_odds(answers: Sequence[Answer]) -> float:
    """s_null - max s_ij: how much more no answer scores than the best answer; infinity where there is no answer.

    Rounded to single precision, as logits are, so that a threshold that equals one of these compares as equal everywhere.
    """
    null = next((answer.score for answer in answers if not answer.text), None)
    best = max((answer.score for answer in answers if answer.text), default=None)
    if best is None:
        return float("inf")
    return float("-inf") if null is None else float(np.float32(null - best))


def chosen(answers: Mapping[str, Sequence[Answer]], threshold: float | None) -> dict[str, str]:
    """Each question's answer: its best text, or none where the odds of no answer exceed `threshold` (None: always a text)."""
    texts = {}
    for question, n_best in answers.items():
        best = next((answer.text for answer in n_best if answer.text), "")
        texts[question] = best if threshold is None or null_odds(n_best) <= threshold else ""
    return texts
