"""Confidence intervals of a mean over examples, and of the difference of two disjoint groups of them."""

from math import sqrt
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray

from protoformer.significance import student_t
from protoformer.significance.intervals import Clusters, DifferenceInterval, cluster_sums


class MeanInterval(NamedTuple):
    """A mean and its confidence interval, which is None for a score with no known range that does not vary."""

    mean: float
    interval: tuple[float, float] | None


def mean_interval(
    scores: Float[ndarray, "examples"], clusters: Clusters | None = None, *, level: float = 0.95
) -> MeanInterval:
    """The interval of Wilson (1927) where each score is 0 or 1 and there are no clusters; else Student's t of the clusters'
    deviations, within 0 and 1 where all scores are. Such scores that do not vary have Wilson's interval of as many examples as
    there are clusters."""
    mean, units = float(scores.mean()), len(scores) if clusters is None else len(np.unique(clusters))
    if clusters is None and bool(np.isin(scores, (0, 1)).all()):
        return MeanInterval(mean, wilson(mean, units, level))
    error = _standard_error((scores - mean) / len(scores), clusters)
    if error > 0:
        half = student_t.quantile((1 + level) / 2, units - 1) * error
        low, high = mean - half, mean + half
        if scores.min() >= 0 and scores.max() <= 1:
            low, high = max(0.0, low), min(1.0, high)
        return MeanInterval(mean, (low, high))
    return MeanInterval(mean, wilson(mean, units, level) if 0 <= mean <= 1 else None)


def difference_from_rest(
    scores: Float[ndarray, "examples"],
    members: Bool[ndarray, "examples"],
    clusters: Clusters | None = None,
    *,
    level: float = 0.95,
) -> DifferenceInterval | None:
    """Mean of the members minus that of the others, with Student's t interval of the clusters' influences; None where either
    group is empty or the scores do not vary. Of few examples of a score of 0 or 1 it is too narrow."""
    if members.all() or not members.any():
        return None
    inside, outside = float(scores[members].mean()), float(scores[~members].mean())
    parts = np.where(members, (scores - inside) / members.sum(), -(scores - outside) / (~members).sum())
    error = _standard_error(parts, clusters)
    if error == 0:
        return None
    freedom = len(scores if clusters is None else np.unique(clusters)) - 1
    half = student_t.quantile((1 + level) / 2, freedom) * error
    gain = inside - outside
    return DifferenceInterval(gain, gain - half, gain + half, 2 * student_t.tail(abs(gain) / error, freedom), error)


def wilson(fraction: float, count: int, level: float = 0.95) -> tuple[float, float]:
    """The score interval of a proportion (Wilson 1927)."""
    z = NormalDist().inv_cdf((1 + level) / 2)
    middle, below = (fraction + z**2 / (2 * count)), 1 + z**2 / count
    half = z * sqrt(fraction * (1 - fraction) / count + z**2 / (4 * count**2))
    return max(0.0, (middle - half) / below), min(1.0, (middle + half) / below)


def _standard_error(parts: Float[ndarray, "examples"], clusters: Clusters | None) -> float:
    sums = cluster_sums(parts, clusters)
    return 0.0 if len(sums) < 2 else sqrt(len(sums) / (len(sums) - 1) * float((sums**2).sum()))
