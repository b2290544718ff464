"""Perplexities and bits of a text from the sum of its tokens' -log P (Radford et al. 2019, section 3.1).

The sum is divided by a count of the *original* text before the exponent is taken, so that models with different vocabularies,
and texts that were de-tokenised, are compared by the same units:

    perplexity = exp(-sum of log P / units), bits = -sum of log2 P / units
"""

import math
from collections.abc import Mapping
from typing import Literal

Measure = Literal[
    "perplexity_per_token",
    "perplexity_per_word",
    "perplexity_per_original_token",
    "bits_per_byte",
    "bits_per_character",
]
UNITS: Mapping[Measure, str] = {  # the count that each is divided by
    "perplexity_per_token": "tokens",
    "perplexity_per_word": "words",
    "perplexity_per_original_token": "original_tokens",
    "bits_per_byte": "bytes",
    "bits_per_character": "characters",
}


def perplexity(negative_log_likelihood: float, units: int) -> float:
    """exp of the mean of -log P, in nats, over so many units."""
    return math.exp(min(700.0, negative_log_likelihood / max(1, units)))


def bits(negative_log_likelihood: float, units: int) -> float:
    """The mean of -log2 P over so many units."""
    return negative_log_likelihood / math.log(2.0) / max(1, units)


def measures(negative_log_likelihood: float, counts: Mapping[str, int]) -> dict[str, float]:
    """The measures of a text by all units that `counts` has."""
    return {
        name: (perplexity if name.startswith("perplexity") else bits)(negative_log_likelihood, counts[unit])
        for name, unit in UNITS.items()
        if unit in counts
    }
