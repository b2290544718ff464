"""TokenAttributions: the integrated gradients of a page's first text, by token."""

from collections.abc import Sequence
from dataclasses import dataclass

from protoformer.attribution.integrated_gradients import Attributions
from protoformer.views.panels import Token


@dataclass(frozen=True)
class TokenAttributions:
    """Attributions of the tokens of one text, without its padding; `target` says whose logit they are of."""

    target: str
    tokens: Sequence[Token]
    attributions: Attributions

    def largest(self, count: int) -> list[tuple[str, float]]:
        """The tokens with the largest |attribution|, the largest first; none of 0."""
        values = self.attributions.values.tolist()
        ranked = sorted(zip(self.tokens, values, strict=True), key=lambda pair: -abs(pair[1]))
        return [(token.text, value) for token, value in ranked[:count] if value]
