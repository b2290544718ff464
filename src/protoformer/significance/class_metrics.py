"""Metrics of labels as functions of how often each example counts; their definitions are those of `scoring.classification`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from protoformer.significance.metrics import Counts, SumMetric, Sums, Values, ranks_of, ratio, slopes_by_count

Name = Literal["f1", "precision", "recall"]
Average = Literal["binary", "macro", "weighted"]


def of_classes(
    name: Name, average: Average, predictions: Sequence[int], references: Sequence[int], n_classes: int
) -> SumMetric:
    """F1, precision or recall: of class 1 (`binary`), or over classes, `macro` over those that occur and `weighted` by
    references. A fraction of nothing is 0."""

    def function(sums: Sums) -> Values:
        both, predicted, gold = np.split(sums, 3, axis=-1)
        above, below = {"f1": (2 * both, predicted + gold), "precision": (both, predicted), "recall": (both, gold)}[
            name
        ]
        scores = ratio(above, below)
        if average == "binary":
            return scores[..., 1]
        weights = gold if average == "weighted" else (predicted + gold > 0).astype(float)
        return ratio((scores * weights).sum(axis=-1), weights.sum(axis=-1))

    return SumMetric(_class_table(predictions, references, n_classes), function)


def matthews(predictions: Sequence[int], references: Sequence[int], n_classes: int = 2) -> SumMetric:
    """Matthews' correlation, for any number of classes as R_K of Gorodkin 2004; 0 where one side has a single class."""

    def function(sums: Sums) -> Values:
        both, predicted, gold = np.split(sums, 3, axis=-1)
        n = gold.sum(axis=-1)
        covariance = both.sum(axis=-1) * n - (predicted * gold).sum(axis=-1)
        spread = (n**2 - (predicted**2).sum(axis=-1)) * (n**2 - (gold**2).sum(axis=-1))
        return ratio(covariance, np.sqrt(np.maximum(spread, 0)))

    return SumMetric(_class_table(predictions, references, n_classes), function)


@dataclass(frozen=True)
class Auroc:
    """The area under the ROC curve: the fraction of pairs of a positive and a negative example whose order is right, half of
    those with equal scores; 0 where a resample has one class alone."""

    scores: Float[ndarray, "examples"]
    positive: Float[ndarray, "examples"]  # 1 or 0

    @property
    def n_examples(self) -> int:
        return len(self.scores)

    def values(self, counts: Counts) -> Values:
        positives = (counts * self.positive).sum(axis=1)
        negatives = counts.sum(axis=1) - positives
        ranks = (counts * self.positive * ranks_of(self.scores, counts)).sum(axis=1)
        return ratio(ranks - positives**2 / 2, positives * negatives)

    def influences(self) -> Float[ndarray, "examples"]:
        return slopes_by_count(self)

    def beside(self, other: Self) -> Self:
        return type(self)(np.concatenate([self.scores, other.scores]), np.concatenate([self.positive, other.positive]))


def _class_table(
    predictions: Sequence[int], references: Sequence[int], n_classes: int
) -> Float[ndarray, "examples summands"]:
    """Three one-hot rows of each example: its class where the prediction is right, the predicted class, the reference's."""
    one_hot = np.eye(n_classes)
    predicted, gold = one_hot[np.asarray(predictions)], one_hot[np.asarray(references)]
    return np.concatenate([predicted * gold, predicted, gold], axis=1)
