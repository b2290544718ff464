"""Metrics of last words (LAMBADA, arXiv 1606.06031): of the word and of its last token, with and without a stop-word filter.

With the filter a stop word is no answer (Radford et al. 2019, section 3.3): the most probable token that is no stop word begins
the word, and probabilities are those among such tokens. A word that is itself a stop word is wrong then, and has no perplexity.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from protoformer.incontext.prefix_scoring import Likelihood
from protoformer.modules.in_context.scored import ScoredExamples
from protoformer.scoring import in_context
from protoformer.text.words.stop_words import STOP_WORDS

FILTER = "stop_word_filter"


def last_word_values(likelihood: Likelihood) -> list[float]:
    """log P of the last token, whether it is the most probable one; what log P gains by the filter, and whether the word is
    written under it."""
    gain = likelihood.allowed_log_probs[0] - likelihood.log_probs[0]
    word = likelihood.allowed_greedy[0] and all(likelihood.greedy[1:])
    return [likelihood.log_probs[-1], likelihood.greedy[-1], gain if math.isfinite(gain) else math.nan, word]


@dataclass(frozen=True)
class LastWords:
    """The words of scored examples, whose further values are those of `last_word_values`."""

    scored: ScoredExamples

    @property
    def _values(self) -> Float[Tensor, "examples 4"]:
        return self.scored.further[:, 0]

    def per_example(self) -> dict[str, Tensor]:
        """Accuracies. The last token of a word of several is not filtered: it is no word."""
        _, last_greedy, _, filtered_word = self._values.double().unbind(1)
        is_token = self.scored.tokens[:, 0] == 1
        return {
            "accuracy_last_token": last_greedy,
            f"accuracy_{FILTER}": filtered_word,
            f"accuracy_last_token_{FILTER}": torch.where(is_token, filtered_word, last_greedy),
        }

    def of_draw(self) -> dict[str, Callable[[Tensor], float]]:
        """Perplexities; those with the filter of words that are no stop words."""
        last, _, gain, _ = self._values.unbind(1)
        is_token = self.scored.tokens[:, 0] == 1
        log_probs = {
            "last_token": last,
            FILTER: self.scored.log_probs[:, 0] + gain,
            f"last_token_{FILTER}": torch.where(is_token, last + gain, last),
        }
        return {f"perplexity_{name}": _Perplexity(values) for name, values in log_probs.items()}

    def note(self) -> str:
        """How many words the filter takes for wrong."""
        stops = int(self._values[:, 2].isnan().sum())
        return (
            f"own list of {len(STOP_WORDS)}; {stops} of {len(self._values)} words to predict are in it: wrong under the "
            "filter, and no part of its perplexities"
        )


@dataclass(frozen=True)
class _Perplexity:
    log_probs: Float[Tensor, "examples"]

    def __call__(self, selected: Tensor) -> float:
        values = self.log_probs[selected]
        known = values[~values.isnan()].tolist()
        return in_context.perplexity(known) if known else math.nan
