"""Sampling: the next token from the logits, greedily or at random.

Top-k sampling (arXiv 1805.04833, section 5.1), nucleus or top-p sampling (arXiv 1904.09751, section 3.1), and the repetition
penalty of CTRL (arXiv 1909.05858, section 4.1).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict

import torch
from jaxtyping import Float, Int
from torch import Tensor

from protoformer.errors import ConfigurationError


@dataclass(frozen=True)
class SamplingParams:
    """Options of `sample`, applied in the order of the fields. `temperature` 0 is greedy decoding, and draws nothing.

    Raises ConfigurationError for a value out of range.
    """

    repetition_penalty: float = 1.0
    temperature: float = 0.0
    top_k: int | None = None
    top_p: float | None = None

    def __post_init__(self) -> None:
        if not self.repetition_penalty > 0:
            raise ConfigurationError(f"repetition_penalty={self.repetition_penalty}: above 0 (1 is no penalty)")
        if not self.temperature >= 0:
            raise ConfigurationError(f"temperature={self.temperature}: 0 (greedy decoding) or more")
        if self.top_k is not None and self.top_k < 1:
            raise ConfigurationError(f"top_k={self.top_k}: at least 1")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise ConfigurationError(f"top_p={self.top_p}: above 0, and at most 1")


class SamplingOptions(TypedDict, total=False):
    """The fields of `SamplingParams`, as keyword arguments of a call."""

    repetition_penalty: float
    temperature: float
    top_k: int | None
    top_p: float | None


def sample(
    logits: Float[Tensor, "rows vocab"],
    params: SamplingParams,
    previous_tokens: Sequence[Sequence[int]],
    generators: Sequence[torch.Generator],
) -> Int[Tensor, "rows"]:
    """The next token of each row.

    `previous_tokens` are each row's tokens so far, for the repetition penalty. Each row draws from its own generator, so that
    its token does not depend on the other rows of the batch.
    """
    logits = logits.float()
    if params.repetition_penalty != 1.0:
        logits = apply_repetition_penalty(logits, previous_tokens, params.repetition_penalty)
    if params.temperature == 0.0:
        return logits.max(-1).indices  # twice as fast as argmax on the CPU
    if logits.is_cuda and torch.are_deterministic_algorithms_enabled():
        logits = logits.cpu()  # a GPU's cumulative sums of floats are not deterministic; torch refuses them
    logits = logits / params.temperature
    if params.top_k is not None:
        logits = top_k_filter(logits, params.top_k)
    if params.top_p is not None:
        logits = top_p_filter(logits, params.top_p)
    # inverse transform sampling: the first token whose cumulative probability exceeds a uniform number
    # float64, since a float32 sum over a large vocabulary loses its rarest tokens
    cdf = logits.double().softmax(-1).cumsum(-1)  # (rows, vocab)
    uniform = torch.stack([torch.rand((), dtype=torch.double, generator=generator) for generator in generators])
    # times the last value, which rounding leaves near 1
    below = cdf <= (uniform.to(cdf.device) * cdf[:, -1])[:, None]
    return below.sum(-1).clamp(max=logits.shape[-1] - 1)


def apply_repetition_penalty(
    logits: Float[Tensor, "rows vocab"], previous_tokens: Sequence[Sequence[int]], penalty: float
) -> Float[Tensor, "rows vocab"]:
    """Logits of tokens that a row has already: positive ones divided by the penalty, negative ones multiplied by it."""
    logits = logits.clone()
    for row, tokens in enumerate(previous_tokens):
        token_ids = torch.tensor(sorted(set(tokens)), dtype=torch.long, device=logits.device)
        values = logits[row, token_ids]
        logits[row, token_ids] = torch.where(values > 0, values / penalty, values * penalty)
    return logits


def top_k_filter(logits: Float[Tensor, "rows vocab"], k: int) -> Float[Tensor, "rows vocab"]:
    """-inf for all tokens but the k most probable; ties with the k-th are kept."""
    # (rows, 1)
    kth_logit = logits.topk(min(k, logits.shape[-1])).values[:, -1:]
    return logits.masked_fill(logits < kth_logit, -torch.inf)


def top_p_filter(logits: Float[Tensor, "rows vocab"], p: float) -> Float[Tensor, "rows vocab"]:
    """-inf for all tokens outside the nucleus: the fewest tokens whose probabilities sum to p or more, at least one."""
    sorted_logits, order = logits.sort(dim=-1, descending=True)
    # a token is outside when those before it have p already
    mass_before = sorted_logits.softmax(-1).cumsum(-1) - sorted_logits.softmax(-1)
    removed = mass_before >= p
    # the most probable token stays, even where p is below every probability
    removed[:, 0] = False
    # from sorted order back to token ids
    return logits.masked_fill(torch.zeros_like(removed).scatter(-1, order, removed), -torch.inf)
