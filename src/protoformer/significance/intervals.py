"""Confidence intervals of the difference of two systems, each one or several runs (seeds) scored on the same examples.

What the interval covers is what is drawn anew:

    examples    the systems are these runs; other examples could have been drawn. Paired bootstrap over examples (Efron and
                Tibshirani 1993, chapter 13; Koehn 2004, section 4), whole clusters at once where examples depend on each other,
                such as questions of one passage.
    seeds       the examples are these; other seeds could have been drawn. Welch's t interval of the runs' scores: a bootstrap
                over a handful of runs is too narrow, by a factor of sqrt((n - 1) / n) and by that of t to the normal quantile.
    both        other examples and other seeds. With D the difference of means over runs, and the influence u of an example on
                a run's score (the score minus its mean, where the metric is a mean over examples), a two-way random model gives

                    Var D = V_examples + V_ours + V_theirs - I_ours - I_theirs,

                V_examples of the influences' means over runs, V of the runs' scores over seeds, and I, the part of a run's
                influences that is neither its own nor the example's, which the first three count twice. The t quantile has
                Satterthwaite's degrees of freedom.

A hierarchical bootstrap, which draws runs and then examples, is computed beside the last as a check (`hierarchical_bootstrap`).

Where scores do not vary at all there is no t interval (its bounds are nan), and p is that of exchanging what can be exchanged:
runs between the sides, or the sides of an example.
"""

from collections.abc import Iterator, Sequence
from math import comb, nan
from statistics import NormalDist
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from protoformer.significance import student_t
from protoformer.significance.metrics import Counts, Metric, value

Over = Literal["examples", "seeds", "both"]
Clusters = Int[ndarray, "examples"]
CHUNK = 4_000_000  # counts in memory at once
ROUNDING = 1e-12  # of a metric: a smaller difference is one of the order in which numbers were added


class DifferenceInterval(NamedTuple):
    """A difference, ours minus theirs, with its confidence interval and two-sided p-value against no difference. The bounds are
    nan where nothing varies that an interval could be made of."""

    difference: float
    low: float
    high: float
    p: float
    standard_error: float

    @property
    def is_significant(self) -> bool:
        """Whether the interval excludes zero."""
        return self.low > 0 or self.high < 0


class Variance(NamedTuple):
    """The parts of the variance of a difference, with their degrees of freedom; `doubled` is contained in two of them."""

    examples: float
    seeds: tuple[float, float]
    doubled: float
    freedom: tuple[int, int, int]

    @property
    def total(self) -> float:
        """At least what examples alone and seeds alone give: neither can exceed the whole."""
        return max(self.examples + sum(self.seeds) - self.doubled, self.examples, sum(self.seeds))


def difference(ours: Sequence[Metric], theirs: Sequence[Metric]) -> float:
    """Mean over our runs minus mean over theirs."""
    return _gain(*([value(run) for run in side] for side in (ours, theirs)))


def over_examples(
    ours: Sequence[Metric],
    theirs: Sequence[Metric],
    clusters: Clusters | None = None,
    *,
    level: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> DifferenceInterval:
    """Paired bootstrap over examples. The interval is of percentiles of the resampled differences; p twice the smaller fraction
    of them on one side of zero, and at least 1 / resamples. Both are widened as a t interval is against a normal one, which
    counts where units are few (expanded percentiles: Hesterberg 2014, arXiv 1411.5279)."""
    drawn = np.concatenate(
        [
            differences(_mean_values(ours, counts), _mean_values(theirs, counts))
            for counts in resampled_counts(ours[0].n_examples, clusters, resamples, seed)
        ]
    )
    units = ours[0].n_examples if clusters is None else len(np.unique(clusters))
    return _percentiles(difference(ours, theirs), drawn, level, units)


def over_seeds(ours: Sequence[Metric], theirs: Sequence[Metric], *, level: float = 0.95) -> DifferenceInterval:
    """Welch's interval of the runs' scores. Raises ValueError with fewer than two runs on a side."""
    return welch(*([value(run) for run in side] for side in (ours, theirs)), level=level)


def welch(ours: Sequence[float], theirs: Sequence[float], *, level: float = 0.95) -> DifferenceInterval:
    """Welch's interval of two groups of scores. Raises ValueError with fewer than two on a side."""
    scores = [np.asarray(side, dtype=float) for side in (ours, theirs)]
    if min(map(len, scores)) < 2:
        raise ValueError("an interval over seeds takes two runs on each side at least")
    parts = [_variance(side) / len(side) for side in scores]
    freedom = satterthwaite(parts, [len(side) - 1 for side in scores], sum(parts))
    return _t_interval(_gain(*scores), sum(parts), freedom, level, _p_of_dealing(*map(len, scores)))


def over_both(
    ours: Sequence[Metric], theirs: Sequence[Metric], clusters: Clusters | None = None, *, level: float = 0.95
) -> DifferenceInterval:
    """The interval over other examples and other seeds. Raises ValueError with fewer than two runs on a side."""
    parts = variance(ours, theirs, clusters)
    components = [parts.examples, *parts.seeds]
    freedom = satterthwaite(components, list(parts.freedom), parts.total)
    p_of_exchange = max(0.5 ** parts.freedom[0], _p_of_dealing(len(ours), len(theirs)))
    return _t_interval(difference(ours, theirs), parts.total, freedom, level, p_of_exchange)


def variance(ours: Sequence[Metric], theirs: Sequence[Metric], clusters: Clusters | None = None) -> Variance:
    """The parts of the variance of a difference. Raises ValueError with fewer than two runs on a side."""
    if min(len(ours), len(theirs)) < 2:
        raise ValueError("a variance over seeds takes two runs on each side at least")
    influences = [np.stack([cluster_sums(run.influences(), clusters) for run in side]) for side in (ours, theirs)]
    n, units = ours[0].n_examples, influences[0].shape[1]
    if units < 2:
        raise ValueError("a variance over examples takes two of them at least")
    gains = differences(*(side.mean(axis=0) for side in influences))
    scale = units / (units - 1) / n**2
    seeds, doubled = [], 0.0
    for side, metrics in zip(influences, (ours, theirs), strict=True):
        runs = len(metrics)
        seeds.append(_variance([value(run) for run in metrics]) / runs)
        residuals = side - side.mean(axis=0)
        doubled += float((residuals**2).sum()) / (runs - 1) * scale / runs
    freedom = (units - 1, len(ours) - 1, len(theirs) - 1)
    return Variance(float((gains**2).sum()) * scale, (seeds[0], seeds[1]), doubled, freedom)


def hierarchical_bootstrap(
    ours: Sequence[Metric],
    theirs: Sequence[Metric],
    clusters: Clusters | None = None,
    *,
    level: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> DifferenceInterval:
    """Runs of each side and examples, all drawn with replacement. Too narrow with few runs that differ as a whole; too wide
    where runs differ from example to example, which both drawings have (see `over_both`)."""
    generator = np.random.default_rng([seed, 1])
    drawn = []
    for counts in resampled_counts(ours[0].n_examples, clusters, resamples, seed):
        means = []
        for side in (ours, theirs):
            values = np.stack([run.values(counts) for run in side])
            chosen = generator.integers(len(side), size=values.shape)
            means.append(np.take_along_axis(values, chosen, axis=0).mean(axis=0))
        drawn.append(differences(*means))
    return _percentiles(difference(ours, theirs), np.concatenate(drawn), level)


def resampled_counts(examples: int, clusters: Clusters | None, resamples: int, seed: int) -> Iterator[Counts]:
    """How often each example is drawn, in chunks of resamples; the examples of a cluster are drawn together.

    Raises ValueError without examples or resamples.
    """
    if examples == 0 or resamples < 1:
        raise ValueError("no examples to compare" if examples == 0 else f"{resamples} resamples: at least one")
    generator = np.random.default_rng(seed)
    _, unit = (None, np.arange(examples)) if clusters is None else np.unique(clusters, return_inverse=True)
    units = int(unit.max()) + 1
    step = max(1, CHUNK // max(examples, units))
    for done in range(0, resamples, step):
        size = min(step, resamples - done)
        drawn = generator.integers(units, size=(size, units)) + units * np.arange(size)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=size * units).reshape(size, units)
        yield counts[:, unit].astype(float)


def cluster_sums(values: Float[ndarray, "examples"], clusters: Clusters | None) -> Float[ndarray, "units"]:
    """Sums over the examples of each cluster."""
    if clusters is None:
        return values
    _, unit = np.unique(clusters, return_inverse=True)
    return np.bincount(unit, weights=values)


def differences(ours: Float[ndarray, "..."], theirs: Float[ndarray, "..."]) -> Float[ndarray, "..."]:
    """Ours minus theirs; 0 where that is within the rounding of sums of both."""
    gains = ours - theirs
    result: ndarray = np.where(np.abs(gains) <= ROUNDING * np.maximum(1, np.abs(ours)), 0.0, gains)
    return result


def satterthwaite(parts: Sequence[float], freedom: Sequence[int], total: float) -> float:
    """Degrees of freedom of a sum of variances (Satterthwaite 1946)."""
    below = sum(part**2 / degrees for part, degrees in zip(parts, freedom, strict=True))
    return total**2 / below if below > 0 else float(min(freedom))


def _gain(ours: Sequence[float] | ndarray, theirs: Sequence[float] | ndarray) -> float:
    return float(differences(np.asarray(np.mean(ours)), np.asarray(np.mean(theirs))))


def _variance(scores: Sequence[float] | ndarray) -> float:
    """With n - 1; 0 of scores that are equal but for rounding."""
    spread = float(np.var(scores, ddof=1))
    return 0.0 if spread <= (ROUNDING * max(1.0, float(np.abs(scores).max()))) ** 2 else spread


def _p_of_dealing(ours: int, theirs: int) -> float:
    """p of a difference that no other dealing of the runs to the sides gives, but the opposite one of sides of one size."""
    return (2 if ours == theirs else 1) / comb(ours + theirs, ours)


def _mean_values(runs: Sequence[Metric], counts: Counts) -> Float[ndarray, "resamples"]:
    return np.mean([run.values(counts) for run in runs], axis=0)


def _percentiles(
    observed: float, drawn: Float[ndarray, "resamples"], level: float, units: int | None = None
) -> DifferenceInterval:
    """Percentiles of resamples; with the number of `units` that were drawn, expanded ones."""
    tail = (1 - level) / 2
    smaller = min((drawn <= 0).mean(), (drawn >= 0).mean())
    p = min(1.0, max(2 * float(smaller), 1 / len(drawn)))
    if units is not None and units > 1:
        normal, widening = NormalDist(), np.sqrt(units / (units - 1))
        tail = normal.cdf(-widening * student_t.quantile(1 - tail, units - 1))
        p = min(1.0, 2 * student_t.tail(-normal.inv_cdf(p / 2) / widening, units - 1))
    low, high = np.quantile(drawn, [tail, 1 - tail])
    return DifferenceInterval(observed, float(low), float(high), p, float(drawn.std(ddof=1)) if len(drawn) > 1 else 0.0)


def _t_interval(
    observed: float, variance: float, freedom: float, level: float, p_of_exchange: float
) -> DifferenceInterval:
    error = float(np.sqrt(variance))
    if error == 0:
        bounds = (0.0, 0.0, 1.0) if observed == 0 else (nan, nan, p_of_exchange)
        return DifferenceInterval(observed, *bounds, 0.0)
    half = student_t.quantile((1 + level) / 2, freedom) * error
    p = 2 * student_t.tail(abs(observed) / error, freedom)
    return DifferenceInterval(observed, observed - half, observed + half, p, error)
