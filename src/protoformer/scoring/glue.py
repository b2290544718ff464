"""Metrics of the GLUE benchmark (arXiv 1804.07461, section 3).

Accuracy, F1 of the positive class (label 1), and the correlations of Matthews, Pearson and Spearman. Accuracy and F1 are
between 0 and 1, correlations between -1 and 1; papers print them times 100.

Failed fine-tuning runs give degenerate predictions. The metrics are then defined as in scikit-learn and scipy: F1 without true
positives is 0; the Matthews correlation of a constant is 0; the Pearson and Spearman correlations of a constant, of a single
example, or of predictions that are not finite are nan.
"""

import math
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torchmetrics.functional.classification import binary_f1_score, multiclass_accuracy, multiclass_matthews_corrcoef
from torchmetrics.functional.regression import pearson_corrcoef

Metric = Literal["accuracy", "f1", "matthews_correlation", "pearson", "spearman"]
Logits = Float[Tensor, "examples labels"]
References = Int[Tensor, "examples"] | Float[Tensor, "examples"]


def score(metrics: Sequence[Metric], logits: Logits, references: References) -> dict[str, float]:
    """Compute the named metrics of one set of predictions.

    `logits` has one column per label, or a single column with the predicted number for `pearson` and `spearman`. Raises
    ValueError for an unknown metric, mismatched shapes, no examples, or a label without a column.
    """
    unknown = [name for name in metrics if name not in METRICS]
    if unknown:
        raise ValueError(f"no metric named {', '.join(map(repr, unknown))}; there are {', '.join(METRICS)}")
    if logits.dim() != 2 or references.shape != logits.shape[:1]:
        raise ValueError(f"logits {tuple(logits.shape)} and references {tuple(references.shape)} do not match")
    if references.numel() == 0:
        raise ValueError("no examples to score")
    logits, references = logits.detach().cpu(), references.detach().cpu()
    return {name: METRICS[name](logits, references) for name in metrics}


def _accuracy(logits: Logits, references: References) -> float:
    predictions, labels = _classes(logits, references)
    return float(multiclass_accuracy(predictions, labels, num_classes=logits.shape[1], average="micro"))


def _f1(logits: Logits, references: References) -> float:
    if logits.shape[1] != 2:
        raise ValueError(f"f1 is defined for two labels; there are {logits.shape[1]} labels")
    return float(binary_f1_score(*_classes(logits, references)))


def _matthews_correlation(logits: Logits, references: References) -> float:
    """Matthews correlation for two labels; Gorodkin's R_K for more."""
    predictions, labels = _classes(logits, references)
    if _constant(predictions) or _constant(labels):  # torchmetrics gives 1, -1 or a limit here, depending on the case
        return 0.0
    return float(multiclass_matthews_corrcoef(predictions, labels, num_classes=logits.shape[1]))


def _pearson(logits: Logits, references: References) -> float:
    return _correlation(*_numbers(logits, references))


def _spearman(logits: Logits, references: References) -> float:
    """Pearson correlation of the ranks. Torchmetrics' version adds 1e-6 to the denominator, and returns 0 for a constant."""
    predictions, numbers = _numbers(logits, references)
    if not (predictions.isfinite().all() and numbers.isfinite().all()):
        return math.nan
    return _correlation(_ranks(predictions), _ranks(numbers))


def _classes(logits: Logits, references: References) -> tuple[Int[Tensor, "examples"], Int[Tensor, "examples"]]:
    labels, n_labels = references.long(), logits.shape[1]
    if labels.min() < 0 or labels.max() >= n_labels:
        raise ValueError(f"labels {int(labels.min())} to {int(labels.max())}, but logits of 0 to {n_labels - 1}")
    return logits.argmax(dim=1), labels


def _numbers(logits: Logits, references: References) -> tuple[Float[Tensor, "examples"], Float[Tensor, "examples"]]:
    if logits.shape[1] != 1:
        raise ValueError(f"a correlation needs one predicted number, not {logits.shape[1]} logits")
    return logits[:, 0].double(), references.double()


def _correlation(a: Float[Tensor, "examples"], b: Float[Tensor, "examples"]) -> float:
    if not (a.isfinite().all() and b.isfinite().all()) or _constant(a) or _constant(b):
        return math.nan
    return float(pearson_corrcoef(a, b))


def _constant(values: Tensor) -> bool:
    return bool((values == values[0]).all())


def _ranks(values: Float[Tensor, "examples"]) -> Float[Tensor, "examples"]:
    """Ranks, counted from 1; ties get the mean of their ranks."""
    _, indices, counts = torch.unique(values, return_inverse=True, return_counts=True)
    return (counts.cumsum(0) - (counts - 1) / 2).double()[indices]


METRICS: dict[Metric, Callable[[Logits, References], float]] = {
    "accuracy": _accuracy,
    "f1": _f1,
    "matthews_correlation": _matthews_correlation,
    "pearson": _pearson,
    "spearman": _spearman,
}
