"""The next token, from the logits of every token.

The likeliest one; or one drawn, after a temperature, from the k likeliest (arXiv 1805.04833, section 5.1) or from the fewest
that hold a share p of the probability (arXiv 1904.09751, section 3.1). Tokens that stand in the text already can be made less
likely (arXiv 1909.05858, section 4.1).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict

import torch
from jaxtyping import Float, Int
from torch import Tensor

from protoformer.errors import ConfigurationError


@dataclass(frozen=True)
class Choosing:
    """How: `temperature` 0 takes the likeliest token and draws nothing. What is given is applied in the order of these
    fields, the penalty first. Raises ConfigurationError for a number that means nothing."""

    repetition_penalty: float = 1.0
    temperature: float = 0.0
    top_k: int | None = None
    top_p: float | None = None

    def __post_init__(self) -> None:
        if not self.repetition_penalty > 0:
            raise ConfigurationError(
                f"repetition_penalty={self.repetition_penalty}: over 0 (1 leaves everything as it is)"
            )
        if not self.temperature >= 0:
            raise ConfigurationError(f"temperature={self.temperature}: 0 (the likeliest token) or more")
        if self.top_k is not None and self.top_k < 1:
            raise ConfigurationError(f"top_k={self.top_k}: at least 1")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise ConfigurationError(f"top_p={self.top_p}: over 0, and at most 1")

    def __call__(
        self, logits: Float[Tensor, "rows vocab"], seen: Sequence[Sequence[int]], generators: Sequence[torch.Generator]
    ) -> Int[Tensor, "rows"]:
        """One token a row. `seen` holds each row's tokens so far; each row draws from a generator of its own, so that it
        gets the same token in any company."""
        logits = logits.float()
        if self.repetition_penalty != 1.0:
            logits = penalized(logits, seen, self.repetition_penalty)
        if self.temperature == 0.0:
            return logits.max(-1).indices  # twice as fast as argmax on the CPU
        logits = logits / self.temperature
        if self.top_k is not None:
            logits = likeliest(logits, self.top_k)
        if self.top_p is not None:
            logits = nucleus(logits, self.top_p)
        total = logits.double().softmax(-1).cumsum(-1)
        drawn = torch.stack([torch.rand((), dtype=torch.double, generator=generator) for generator in generators])
        reached = total <= (drawn.to(total.device) * total[:, -1])[:, None]
        return reached.sum(-1).clamp(max=logits.shape[-1] - 1)


class Words(TypedDict, total=False):
    """The fields of `Choosing`, as a call may name them."""

    repetition_penalty: float
    temperature: float
    top_k: int | None
    top_p: float | None


def penalized(
    logits: Float[Tensor, "rows vocab"], seen: Sequence[Sequence[int]], penalty: float
) -> Float[Tensor, "rows vocab"]:
    """Positive logits of tokens that were seen are divided by the penalty, negative ones multiplied."""
    logits = logits.clone()
    for row, tokens in enumerate(seen):
        known = torch.tensor(sorted(set(tokens)), dtype=torch.long, device=logits.device)
        values = logits[row, known]
        logits[row, known] = torch.where(values > 0, values / penalty, values * penalty)
    return logits


def likeliest(logits: Float[Tensor, "rows vocab"], k: int) -> Float[Tensor, "rows vocab"]:
    """All but the k likeliest are out; what is as likely as the last of them stays."""
    least = logits.topk(min(k, logits.shape[-1])).values[:, -1:]
    return logits.masked_fill(logits < least, -torch.inf)


def nucleus(logits: Float[Tensor, "rows vocab"], p: float) -> Float[Tensor, "rows vocab"]:
    """The fewest tokens whose probabilities sum up to p or more, the likeliest always."""
    ordered, order = logits.sort(dim=-1, descending=True)
    before = ordered.softmax(-1).cumsum(-1) - ordered.softmax(-1)
    out = before >= p
    out[:, 0] = False
    return logits.masked_fill(torch.zeros_like(out).scatter(-1, order, out), -torch.inf)
