"""Paired bootstrap over examples: how sure a difference between two systems is (Efron and Tibshirani 1993, chapter 13; for
language tasks Koehn 2004, section 4).

With gains g_i = a_i - b_i on the same n examples, draw n of them with replacement, many times; the interval at level 1 - alpha
reaches from the alpha / 2 to the 1 - alpha / 2 quantile of the means of these samples.
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
        """The interval lies on one side of zero."""
        return self.low > 0 or self.high < 0


def paired_bootstrap(
    ours: Float[ndarray, "runs examples"],
    theirs: Float[ndarray, "other_runs examples"],
    *,
    level: float = 0.95,
    draws: int = 10_000,
    seed: int = 0,
) -> Difference:
    """The difference of two systems from the scores of each run on each example (1 or 0 for accuracy).

    Runs of a system (its seeds) are averaged example by example; then the same examples are sampled for both systems. So
    the interval is about other examples, not about other seeds. Raises ValueError where there is no example or run, and for
    a level outside 0 to 1.
    """
    if ours.size == 0 or theirs.size == 0:
        raise ValueError("no examples to compare")
    if not 0 < level < 1 or draws < 1:
        raise ValueError(f"a level between 0 and 1 and at least one draw, not {level} and {draws}")
    gains = ours.mean(axis=0) - theirs.mean(axis=0)
    generator = np.random.default_rng(seed)
    step = max(1, CHUNK // len(gains))
    means = [
        gains[generator.integers(len(gains), size=(min(step, draws - done), len(gains)))].mean(axis=1)
        for done in range(0, draws, step)
    ]
    low, high = np.quantile(np.concatenate(means), [(1 - level) / 2, (1 + level) / 2])
    return Difference(float(gains.mean()), float(low), float(high))
