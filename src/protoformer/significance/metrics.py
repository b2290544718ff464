"""Metrics as functions of how often each example counts, which is what resampling varies.

Most metrics of the field are functions of sums over examples: accuracy of a number of right answers, F1 and Matthews'
correlation of a confusion matrix, Pearson's correlation of five moments, BLEU of n-gram counts, perplexity of log-likelihoods
and tokens. A resample is then a product of its counts and the table of each example's summands, `(resamples, examples)` by
`(examples, summands)`. Spearman's correlation ranks the examples of each resample anew.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

Counts = Float[ndarray, "resamples examples"]
Values = Float[ndarray, "resamples"]
Sums = Float[ndarray, "resamples summands"]


class Metric(Protocol):
    """A metric of one run on one split. Multiplying all counts by a number does not change it."""

    @property
    def n_examples(self) -> int: ...

    def values(self, counts: Counts) -> Values:
        """The metric where example j counts `counts[i, j]` times, for each row i."""
        ...

    def influences(self) -> Float[ndarray, "examples"]:
        """n times the derivative by each example's count, where each counts once: the infinitesimal jackknife (Jaeckel 1972;
        Efron and Tibshirani 1993, section 21). They sum to 0. Of a mean: each score minus the mean."""
        ...

    def beside(self, other: Self) -> Self:
        """The same metric of this run's examples and, behind them, those of another run."""
        ...


def value(metric: Metric) -> float:
    """The metric where each example counts once."""
    return float(metric.values(np.ones((1, metric.n_examples)))[0])


@dataclass(frozen=True)
class SumMetric:
    """A function of sums over examples. `function` takes sums `(..., summands)`, and works row by row."""

    summands: Float[ndarray, "examples summands"]
    function: Callable[[Sums], Values]

    @property
    def n_examples(self) -> int:
        return len(self.summands)

    def values(self, counts: Counts) -> Values:
        return self.function(counts @ self.summands)

    def influences(self) -> Float[ndarray, "examples"]:
        sums = self.summands.sum(axis=0)
        # central differences: no metric here has a kink where a hundred-thousandth of a sum matters
        steps = np.diag(np.maximum(np.abs(sums), 1.0) * 1e-5)
        slopes = (self.function(sums + steps) - self.function(sums - steps)) / (2 * steps.diagonal())
        influences = self.n_examples * (self.summands @ slopes)
        return influences - influences.mean()

    def beside(self, other: Self) -> Self:
        return type(self)(np.concatenate([self.summands, other.summands]), self.function)


@dataclass(frozen=True)
class _Correlation:
    """Numbers and the references that they are correlated with."""

    predictions: Float[ndarray, "examples"]
    references: Float[ndarray, "examples"]

    @property
    def n_examples(self) -> int:
        return len(self.predictions)

    def beside(self, other: Self) -> Self:
        return type(self)(
            np.concatenate([self.predictions, other.predictions]), np.concatenate([self.references, other.references])
        )


@dataclass(frozen=True)
class Spearman(_Correlation):
    """Spearman's rank correlation: Pearson's of the ranks, tied values having the mean of theirs; 0 where one does not vary."""

    def values(self, counts: Counts) -> Values:
        x, y = (ranks_of(values, counts) for values in (self.predictions, self.references))
        return _weighted_pearson(counts, x, y)

    def influences(self) -> Float[ndarray, "examples"]:
        return slopes_by_count(self)


@dataclass(frozen=True)
class Pearson(_Correlation):
    """Pearson's correlation; 0 where one side does not vary."""

    def values(self, counts: Counts) -> Values:
        return self._of_moments().values(counts)

    def influences(self) -> Float[ndarray, "examples"]:
        return self._of_moments().influences()

    def _of_moments(self) -> SumMetric:
        # correlation does not change, and the moments lose fewer digits
        x, y = (values - values.mean() for values in (self.predictions, self.references))
        table = np.stack([np.ones_like(x), x, y, x * x, y * y, x * y], axis=1)

        def function(sums: Sums) -> Values:
            n, x, y, xx, yy, xy = np.moveaxis(sums, -1, 0)
            return _correlation(xy / n - x * y / n**2, xx / n - (x / n) ** 2, yy / n - (y / n) ** 2)

        return SumMetric(table, function)


@dataclass(frozen=True)
class MeanOverDraws:
    """The mean of a metric over draws of shots, each of them of examples of its own: their indices, and the metric of them."""

    draws: Sequence[tuple[Int[ndarray, "examples"], Metric]]

    @property
    def n_examples(self) -> int:
        return sum(len(indices) for indices, _ in self.draws)

    def values(self, counts: Counts) -> Values:
        result: ndarray = np.mean([metric.values(counts[:, indices]) for indices, metric in self.draws], axis=0)
        return result

    def influences(self) -> Float[ndarray, "examples"]:
        result = np.zeros(self.n_examples)
        for indices, metric in self.draws:
            result[indices] = metric.influences() * self.n_examples / len(indices) / len(self.draws)
        return result

    def beside(self, other: Self) -> Self:
        pairs = zip(self.draws, other.draws, strict=True)
        return type(self)(
            [
                (np.concatenate([indices, others + self.n_examples]), metric.beside(another))
                for (indices, metric), (others, another) in pairs
            ]
        )


def slopes_by_count(metric: Metric, step: float = 1e-3, chunk: int = 512) -> Float[ndarray, "examples"]:
    """A metric's influences by central differences in each count."""
    n = metric.n_examples
    slopes = []
    for start in range(0, n, chunk):
        rows = np.arange(start, min(start + chunk, n))
        moved = np.ones((2, len(rows), n))
        moved[0, np.arange(len(rows)), rows] += step
        moved[1, np.arange(len(rows)), rows] -= step
        slopes.append((metric.values(moved[0]) - metric.values(moved[1])) / (2 * step))
    influences = n * np.concatenate(slopes)
    return influences - influences.mean()


def mean(scores: Sequence[float] | Float[ndarray, "examples"]) -> SumMetric:
    """The mean of the examples' scores: accuracy, exact match, F1 of answers."""
    return ratio_of_sums(scores, np.ones(len(scores)))


def ratio_of_sums(above: Sequence[float] | ndarray, below: Sequence[float] | ndarray) -> SumMetric:
    """The sum of one number of each example over the sum of another: right tokens over tokens."""
    table = np.stack([np.asarray(above, dtype=float), np.asarray(below, dtype=float)], axis=1)
    return SumMetric(table, lambda sums: ratio(sums[..., 0], sums[..., 1]))


def perplexity(log_likelihoods: Sequence[float], tokens: Sequence[float]) -> SumMetric:
    """exp(-sum of log-likelihoods in nats / tokens); 1 without tokens, infinity of what is too large for a number."""
    table = np.stack([np.asarray(log_likelihoods, dtype=float), np.asarray(tokens, dtype=float)], axis=1)

    def function(sums: Sums) -> Values:
        with np.errstate(over="ignore"):
            values: ndarray = np.exp(ratio(-sums[..., 0], sums[..., 1]))
        return values

    return SumMetric(table, function)


def pearson(predictions: Sequence[float] | ndarray, references: Sequence[float] | ndarray) -> Pearson:
    """Pearson's correlation."""
    return Pearson(np.asarray(predictions, dtype=float), np.asarray(references, dtype=float))


def ratio(above: ndarray, below: ndarray) -> ndarray:
    """A fraction; 0 where its denominator is 0."""
    return np.divide(above, below, out=np.zeros(np.broadcast(above, below).shape), where=below > 0)


def _correlation(covariance: ndarray, variance: ndarray, other: ndarray) -> ndarray:
    spread = np.maximum(variance, 0) * np.maximum(other, 0)
    return ratio(covariance, np.sqrt(np.where(spread < 1e-24, 0, spread)))


def ranks_of(values: Float[ndarray, "examples"], counts: Counts) -> Counts:
    """Ranks of the examples in each resample, from 0.5; equal values have the mean of theirs."""
    _, group = np.unique(values, return_inverse=True)
    order = np.argsort(group, kind="stable")
    starts = np.searchsorted(group[order], np.arange(group.max() + 1))
    sizes = np.add.reduceat(counts[:, order], starts, axis=1)  # (resamples, distinct values)
    return (np.cumsum(sizes, axis=1) - sizes / 2)[:, group]


def _weighted_pearson(counts: Counts, x: Counts, y: Counts) -> Values:
    n = counts.sum(axis=1)
    x, y = (ranks - (counts * ranks).sum(axis=1, keepdims=True) / n[:, None] for ranks in (x, y))
    covariance, variance, other = ((counts * a * b).sum(axis=1) / n for a, b in ((x, y), (x, x), (y, y)))
    return _correlation(covariance, variance, other)
