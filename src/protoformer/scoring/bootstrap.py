"""Paired bootstrap over examples: a confidence interval for the difference of two systems (Efron and Tibshirani 1993, chapter
13; for language tasks Koehn 2004, section 4).

Let g_i = a_i - b_i be the gains on n examples. Each resample draws n of them with replacement. The interval at level 1 - alpha
reaches from the alpha / 2 to the 1 - alpha / 2 quantile of the resampled means.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from numpy import ndarray

CHUNK = 250_000  # sampled indices in memory at once


class Difference(NamedTuple):
    """Mean of ours minus mean of theirs, and its confidence interval."""

    mean: float
    low: float
    high: float

    @property
    def is_sure(self) -> bool:
        """Whether the interval excludes zero."""
        return self.low > 0 or self.high < 0


def paired_bootstrap(
    ours: Float[ndarray, "runs examples"],
    theirs: Float[ndarray, "other_runs examples"],
    *,
    level: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> Difference:
    """The difference of two systems, from the score of each run on each example (1 or 0 for accuracy).

    The runs of a system (its seeds) are averaged for each example; then the same examples are sampled for both systems. The
    interval therefore covers the choice of examples, not of seeds. Raises ValueError without examples or runs, and for a level
    outside 0 to 1.
    """
    if ours.size == 0 or theirs.size == 0:
        raise ValueError("no examples to compare")
    if not 0 < level < 1 or resamples < 1:
        raise ValueError(
            f"level must be between 0 and 1, and at least one resample is needed, not {level} and {resamples}"
        )
    gains = ours.mean(axis=0) - theirs.mean(axis=0)
    generator = np.random.default_rng(seed)
    step = max(1, CHUNK // len(gains))
    means = [
        gains[generator.integers(len(gains), size=(min(step, resamples - done), len(gains)))].mean(axis=1)
        for done in range(0, resamples, step)
    ]
    low, high = np.quantile(np.concatenate(means), [(1 - level) / 2, (1 + level) / 2])
    return Difference(float(gains.mean()), float(low), float(high))
