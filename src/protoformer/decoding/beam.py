"""Beam search with a length penalty (arXiv 1609.08144, section 7; arXiv 1706.03762, section 6.1).

A finished hypothesis Y of a source X has the score

    s(Y, X) = log P(Y | X) / lp(Y)

where lp(Y) = ((5 + |Y|) / (5 + 1))^alpha (`gnmt`: equation 14, without its coverage penalty) or |Y|^alpha (`power`, as in
Hugging Face's `length_penalty`); |Y| counts the end-of-sequence token.

A step expands every alive hypothesis by every token and looks at the best 2 x `num_beams` candidates. Those that end are
finished if they are among the first `num_beams`; the best of the others stay alive. So at least `num_beams` candidates go on,
whatever ends.
"""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from protoformer.decoding.session import DecodingSession
from protoformer.errors import ConfigurationError

LengthPenalty = Literal["power", "gnmt"]
EarlyStopping = Literal["first", "best_possible", "exhaustive"]
MAX_BEAMS = 1000


@dataclass(frozen=True)
class BeamParams:
    """Options of `beam_search`. `alpha` is the length penalty's exponent.

    `early_stopping` says when a search ends, once `num_beams` hypotheses have finished (Hugging Face's `early_stopping`):

    - `first` (True): at once;
    - `best_possible` (False): when no alive hypothesis beats the worst finished one at its present length;
    - `exhaustive` ("never"): when none could beat it at the maximum length either.

    Raises ConfigurationError for a value out of range.
    """

    num_beams: int = 4
    length_penalty: LengthPenalty = "power"
    alpha: float = 1.0
    early_stopping: EarlyStopping = "best_possible"

    def __post_init__(self) -> None:
        if self.num_beams < 1:
            raise ConfigurationError(f"num_beams={self.num_beams}: at least 1")
        if self.num_beams > MAX_BEAMS:
            raise ConfigurationError(
                f"num_beams={self.num_beams}: at most {MAX_BEAMS:,}, each of which keeps its own keys and values"
            )
        if not math.isfinite(self.alpha):
            raise ConfigurationError(f"alpha={self.alpha}: a finite number")

    def penalty(self, length: int) -> float:
        """lp(Y) of a hypothesis of `length` tokens."""
        return float(length**self.alpha if self.length_penalty == "power" else ((5 + length) / 6) ** self.alpha)


class Hypothesis(NamedTuple):
    """A finished hypothesis: its new tokens, with the one that ended it, and its score s(Y, X)."""

    tokens: list[int]
    score: float


@dataclass
class BeamState:
    """The beam of one text: tokens of the alive hypotheses and the finished hypotheses, both the best first."""

    index: int  # of the text in the batch
    max_length: int
    alive: list[list[int]] = field(default_factory=lambda: [[]])
    finished: list[Hypothesis] = field(default_factory=list)

    def is_done(self, best_log_prob: float, params: BeamParams, length: int) -> bool:
        """Whether no further step can or need be made; `best_log_prob` is that of the best alive hypothesis."""
        if length >= self.max_length or best_log_prob == -float("inf"):
            return True
        if len(self.finished) < params.num_beams:
            return False
        if params.early_stopping == "first":
            return True
        # with alpha > 0 a longer hypothesis is penalised less, so the bound is reached at the maximum length
        bound_length = self.max_length if params.early_stopping == "exhaustive" and params.alpha > 0 else length
        return best_log_prob / params.penalty(bound_length) <= self.finished[-1].score


class BeamCandidates(NamedTuple):
    """The best expansions of each text's alive hypotheses, sorted by log-probability."""

    log_probs: Float[Tensor, "texts candidates"]
    parents: Int[Tensor, "texts candidates"]  # index of the alive hypothesis that was expanded
    tokens: Int[Tensor, "texts candidates"]
    ends: Bool[Tensor, "texts candidates"]


@torch.no_grad()
def beam_search(
    session: DecodingSession,
    logits: Float[Tensor, "texts vocab"],
    *,
    max_new_tokens: int | Sequence[int],
    eos_ids: Collection[int],
    params: BeamParams,
) -> list[list[Hypothesis]]:
    """Up to `num_beams` finished hypotheses of each text, the best first.

    `session` holds the texts, one a row, and gave `logits`, those of their first new token; it is used up. A hypothesis of
    `max_new_tokens` tokens (a limit for all texts, or one for each) is finished. A text whose search is done leaves the batch.
    """
    texts = len(logits)
    limits = [max_new_tokens] * texts if isinstance(max_new_tokens, int) else list(max_new_tokens)
    if min(limits, default=1) < 1:
        raise ConfigurationError("max_new_tokens: at least one token")
    eos = torch.tensor(sorted(eos_ids), dtype=torch.long, device=logits.device)
    beams = [BeamState(index, limit) for index, limit in enumerate(limits)]
    results: list[list[Hypothesis]] = [[] for _ in range(texts)]
    log_probs = torch.zeros(texts, 1, device=logits.device)  # (texts, alive), of the alive hypotheses
    length = 0
    while beams:
        length += 1
        alive = log_probs.shape[1]
        candidates = _expand(beams, log_probs, logits, eos, params, length)
        for row, beam in enumerate(beams):
            _collect_finished(beam, candidates, row, params, length)
        log_probs, parents, tokens = _keep_alive(beams, candidates, params)
        done = [beam.is_done(float(log_probs[row, 0]), params, length) for row, beam in enumerate(beams)]
        for beam, is_done in zip(beams, done, strict=True):
            if is_done:
                results[beam.index] = beam.finished
        # texts whose search is done leave the batch
        remaining = torch.tensor([row for row, is_done in enumerate(done) if not is_done], device=logits.device)
        if not len(remaining):
            return results
        beams = [beam for beam, is_done in zip(beams, done, strict=True) if not is_done]
        # the session's rows are (texts x alive), flattened
        rows = (parents + alive * torch.arange(len(parents), device=parents.device)[:, None])[remaining]
        log_probs, tokens = log_probs[remaining], tokens[remaining]
        session.select(rows.flatten())
        logits = session.step(tokens.flatten()[:, None])
    return results


def _expand(
    beams: Sequence[BeamState], log_probs: Tensor, logits: Tensor, eos: Tensor, params: BeamParams, length: int
) -> BeamCandidates:
    """log P(y_1..t) = log P(y_1..t-1) + log P(y_t | y_1..t-1) of every continuation, of which the best are returned.

    A hypothesis has `len(eos)` continuations that end it, so (1 + len(eos)) x num_beams candidates always hold `num_beams`
    that go on.
    """
    texts, alive = log_probs.shape  # alive is 1 in the first step, then num_beams
    vocab = logits.shape[-1]
    # (texts, alive, vocab), in float32 whatever the model's precision: a score is a sum over many tokens
    continuations = log_probs[:, :, None] + logits.float().log_softmax(-1).view(texts, alive, vocab)
    count = min(max(2, 1 + len(eos)) * params.num_beams, alive * vocab)
    best, flat_index = continuations.flatten(1).topk(count)  # over (alive x vocab)
    tokens = flat_index % vocab
    # at its maximum length every hypothesis ends, whatever its last token
    at_limit = torch.tensor([length >= beam.max_length for beam in beams], device=best.device)
    return BeamCandidates(best, flat_index // vocab, tokens, torch.isin(tokens, eos) | at_limit[:, None])


def _collect_finished(beam: BeamState, candidates: BeamCandidates, row: int, params: BeamParams, length: int) -> None:
    """Of the first `num_beams` candidates those that end are finished; the best `num_beams` of all are kept."""
    penalty = params.penalty(length)
    # an ending beyond the first num_beams is dropped: as many better candidates go on or have ended
    columns = (column[row, : params.num_beams].tolist() for column in candidates)
    for log_prob, parent, token, ends in zip(*columns, strict=True):
        if ends and log_prob > -float("inf"):
            beam.finished.append(Hypothesis([*beam.alive[parent], token], log_prob / penalty))
    beam.finished = sorted(beam.finished, key=lambda hypothesis: -hypothesis.score)[: params.num_beams]


def _keep_alive(
    beams: Sequence[BeamState], candidates: BeamCandidates, params: BeamParams
) -> tuple[Float[Tensor, "texts alive"], Int[Tensor, "texts alive"], Int[Tensor, "texts alive"]]:
    """The best candidates that do not end: their log-probabilities, the hypotheses they expand, and their last tokens."""
    # a candidate that ends cannot be chosen
    unfinished = candidates.log_probs.masked_fill(candidates.ends, -torch.inf)
    log_probs, order = unfinished.topk(min(params.num_beams, unfinished.shape[1]))
    parents, tokens = candidates.parents.gather(1, order), candidates.tokens.gather(1, order)
    for beam, row_parents, row_tokens in zip(beams, parents.tolist(), tokens.tolist(), strict=True):
        beam.alive = [[*beam.alive[parent], token] for parent, token in zip(row_parents, row_tokens, strict=True)]
    return log_probs, parents, tokens
