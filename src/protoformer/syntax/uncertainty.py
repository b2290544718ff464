"""Intervals and tests of fractions of arcs, where whole sentences are drawn: arcs of one sentence depend on each other."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from protoformer.significance.intervals import resampled_counts

PerSentence = Int[ndarray, "sentences columns"]
TOLERANCE = 1e-9  # equal differences count as extreme


class Fractions(NamedTuple):
    """Arcs found of all arcs, of several predictors, with 95 % intervals of a bootstrap over sentences."""

    fraction: Float[ndarray, "columns"]
    low: Float[ndarray, "columns"]
    high: Float[ndarray, "columns"]


def fractions(correct: PerSentence, arcs: PerSentence, *, resamples: int = 2_000, seed: int = 0) -> Fractions:
    """Fractions over all sentences; NaN for a column without arcs, and resamples without arcs are left out of its interval."""
    drawn = []
    for counts in resampled_counts(len(correct), None, resamples, seed):
        drawn.append(_ratio(counts @ correct, counts @ arcs))
    fraction, with_arcs = _ratio(correct.sum(axis=0), arcs.sum(axis=0)), arcs.any(axis=0)
    low, high = np.full(len(fraction), np.nan), np.full(len(fraction), np.nan)
    if with_arcs.any():
        low[with_arcs], high[with_arcs] = np.nanquantile(np.concatenate(drawn)[:, with_arcs], [0.025, 0.975], axis=0)
    return Fractions(fraction, low, high)


def permutation_p(
    ours: PerSentence, theirs: PerSentence, *, resamples: int = 2_000, seed: int = 0
) -> Float[ndarray, "columns"]:
    """p of the difference of two predictors: if there is none, it does not matter which of them found which arcs of a sentence.

    Approximate randomisation (Noreen 1989): the sign of each sentence's difference is drawn, and p is (1 + resamples at least
    as extreme) / (1 + resamples).
    """
    differences = (ours - theirs).astype(np.float64)
    signs = np.random.default_rng(seed).integers(2, size=(resamples, len(differences))) * 2.0 - 1.0
    extreme = np.abs(signs @ differences) >= np.abs(differences.sum(axis=0)) - TOLERANCE
    return (1 + extreme.sum(axis=0)) / (1 + resamples)


def _ratio(correct: ndarray, arcs: ndarray) -> ndarray:
    return np.divide(correct, arcs, out=np.full(np.shape(correct), np.nan), where=np.asarray(arcs) > 0)
