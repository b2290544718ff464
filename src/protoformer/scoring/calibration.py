"""Calibration: whether predictions of a probability p are right in a share p of the cases.

- Expected calibration error (ECE): the mean over predictions of the distance between confidence and accuracy of their bin; bins
  have equal width (Guo et al. 2017, arXiv 1706.04599, section 2, equation 3).
- Brier score: the mean over examples of the squared distance to the one-hot reference, summed over labels, 0 to 2 (Brier 1950);
  of answers without such labels the squared distance of the confidence to 1 (right) or 0, 0 to 1.
- Temperature: the T of softmax(logits / T) with the greatest likelihood on a validation split (the same, section 4.2).

An ECE is above 0 by chance alone, the more so the fewer the examples: `chance` is what a model would have that is right exactly
as often as it says, at these confidences.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from math import exp, log, sqrt
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray

BINS = 15  # of Guo et al.
DRAWS, DRAWN = 500, 4_000_000  # of `chance`; examples of all draws together, at most
LIMITS = (0.05, 20.0)  # of a temperature
NORMAL = 1.959964  # 0.975 quantile
TINY = 1e-12


class Bin(NamedTuple):
    """Predictions with a confidence in (low, high]: their number, mean confidence, accuracy, and its 95 % interval (Wilson)."""

    low: float
    high: float
    examples: int
    confidence: float
    accuracy: float
    accuracy_low: float
    accuracy_high: float


class Temperature(NamedTuple):
    """The fitted value and its 95 % interval (likelihood ratio). At a limit, 0.05 or 20, there is no maximum in between."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Calibration:
    """Of one split. `chance` are the mean and the 95th percentile of the ECE of a calibrated model."""

    examples: int
    accuracy: float
    confidence: float
    ece: float
    chance: tuple[float, float]
    brier: float
    log_loss: float
    bins: list[Bin]

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "chance": list(self.chance), "bins": [each._asdict() for each in self.bins]}


@dataclass(frozen=True)
class LabelScores:
    """Logits of a classifier, -inf where an example lacks a choice, and the references."""

    logits: Float[ndarray, "examples labels"]
    references: Int[ndarray, "examples"]

    @property
    def are_finite(self) -> bool:
        """Whether all examples have probabilities."""
        return _have_probabilities(self.logits)

    def calibration(self, temperature: float = 1.0) -> Calibration:
        probs, rows = softmax(self.logits / temperature), np.arange(len(self.logits))
        chosen, gold = probs.argmax(axis=1), probs[rows, self.references]
        squares = (probs**2).sum(axis=1) - 2 * gold + 1
        return _of(probs[rows, chosen], chosen == self.references, squares, -np.log(np.maximum(gold, TINY)))

    def temperature(self) -> Temperature:
        """By the likelihood of the references."""
        rows = np.arange(len(self.logits))

        def loss(temperature: float) -> float:
            gold = softmax(self.logits / temperature)[rows, self.references]
            return float(-np.log(np.maximum(gold, TINY)).sum())

        return _fit(loss)


@dataclass(frozen=True)
class AnswerScores:
    """Scores of each example's candidates, -inf where it has fewer, the one that is predicted, and whether that is right."""

    scores: Float[ndarray, "examples candidates"]
    chosen: Int[ndarray, "examples"]
    right: Bool[ndarray, "examples"]

    @property
    def are_finite(self) -> bool:
        """Whether all examples have probabilities."""
        return _have_probabilities(self.scores)

    def calibration(self, temperature: float = 1.0) -> Calibration:
        confidences = self._confidences(temperature)
        return _of(confidences, self.right, (confidences - self.right) ** 2, _log_losses(confidences, self.right))

    def temperature(self) -> Temperature:
        """By the likelihood of being right or wrong."""
        return _fit(lambda temperature: float(_log_losses(self._confidences(temperature), self.right).sum()))

    def _confidences(self, temperature: float) -> Float[ndarray, "examples"]:
        return softmax(self.scores / temperature)[np.arange(len(self.scores)), self.chosen]


def _have_probabilities(logits: Float[ndarray, "examples labels"]) -> bool:
    return bool(np.isfinite(logits.max(axis=1)).all())  # the maximum of a row with nan is nan


def softmax(logits: Float[ndarray, "examples labels"]) -> Float[ndarray, "examples labels"]:
    """In double precision."""
    shifted = np.exp(logits.astype(float) - logits.max(axis=1, keepdims=True))
    result: Float[ndarray, "examples labels"] = shifted / shifted.sum(axis=1, keepdims=True)
    return result


def reliability(
    confidences: Float[ndarray, "examples"], right: Bool[ndarray, "examples"], bins: int = BINS
) -> list[Bin]:
    """The bins that hold a prediction."""
    index = _bin_of(confidences, bins)
    return [
        Bin(
            number / bins,
            (number + 1) / bins,
            int(members.sum()),
            float(confidences[members].mean()),
            float(right[members].mean()),
            *_wilson(int(right[members].sum()), int(members.sum())),
        )
        for number in range(bins)
        if (members := index == number).any()
    ]


def _of(
    confidences: Float[ndarray, "examples"],
    right: Bool[ndarray, "examples"],
    squares: Float[ndarray, "examples"],
    log_losses: Float[ndarray, "examples"],
) -> Calibration:
    draws = max(20, min(DRAWS, DRAWN // len(confidences)))
    drawn = np.random.default_rng(0).random((draws, len(confidences))) < confidences
    chance = _errors(confidences, drawn)
    return Calibration(
        examples=len(confidences),
        accuracy=float(right.mean()),
        confidence=float(confidences.mean()),
        ece=float(_errors(confidences, right[None])[0]),
        chance=(float(chance.mean()), float(np.quantile(chance, 0.95))),
        brier=float(squares.mean()),
        log_loss=float(log_losses.mean()),
        bins=reliability(confidences, right),
    )


def _errors(confidences: Float[ndarray, "examples"], right: Bool[ndarray, "draws examples"]) -> Float[ndarray, "draws"]:
    """The ECE of each draw: the sum over bins of |sum of (right - confidence)|, over the number of examples."""
    gaps = right - confidences
    order = np.argsort(index := _bin_of(confidences, BINS), kind="stable")
    starts = np.flatnonzero(np.diff(index[order], prepend=-1))
    result: ndarray = np.abs(np.add.reduceat(gaps[:, order], starts, axis=1)).sum(axis=1) / len(confidences)
    return result


def _bin_of(confidences: Float[ndarray, "examples"], bins: int) -> Int[ndarray, "examples"]:
    return np.clip(np.ceil(confidences * bins).astype(int) - 1, 0, bins - 1)


def _log_losses(
    confidences: Float[ndarray, "examples"], right: Bool[ndarray, "examples"]
) -> Float[ndarray, "examples"]:
    return -np.log(np.maximum(np.where(right, confidences, 1 - confidences), TINY))


def _wilson(right: int, count: int) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson 1927)."""
    square = NORMAL**2
    middle = (right + square / 2) / (count + square)
    half = NORMAL * sqrt(right * (count - right) / count + square / 4) / (count + square)
    return max(0.0, middle - half), min(1.0, middle + half)


def _fit(loss: Callable[[float], float]) -> Temperature:
    """The minimum by golden sections in ln T, and where the loss is half the 0.95 quantile of chi-squared (1.92) above it."""
    low, high = map(log, LIMITS)
    best = exp(_minimum(lambda x: loss(exp(x)), low, high))
    best = min((best, *LIMITS), key=loss)
    allowed = loss(best) + NORMAL**2 / 2
    return Temperature(best, _crossing(loss, allowed, best, LIMITS[0]), _crossing(loss, allowed, best, LIMITS[1]))


def _minimum(function: Callable[[float], float], low: float, high: float) -> float:
    ratio = (sqrt(5) - 1) / 2
    a, b = high - ratio * (high - low), low + ratio * (high - low)
    at_a, at_b = function(a), function(b)
    for _ in range(40):
        if at_a <= at_b:
            high, b, at_b = b, a, at_a
            a = high - ratio * (high - low)
            at_a = function(a)
        else:
            low, a, at_a = a, b, at_b
            b = low + ratio * (high - low)
            at_b = function(b)
    return (low + high) / 2


def _crossing(loss: Callable[[float], float], allowed: float, inside: float, limit: float) -> float:
    """Where the loss exceeds what is allowed between a temperature inside and a limit; the limit, where it does not."""
    if loss(limit) <= allowed:
        return limit
    near, far = log(inside), log(limit)
    for _ in range(40):
        middle = (near + far) / 2
        near, far = (middle, far) if loss(exp(middle)) <= allowed else (near, middle)
    return exp(near)
