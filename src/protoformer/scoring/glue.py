"""The GLUE benchmark's metrics (arXiv 1804.07461, section 3): from predictions and references to numbers.

Accuracy, F1 of the positive class (label 1), Matthews' correlation, Pearson's and Spearman's. Every number lies on the
scale on which it is defined (accuracy and F1: 0 to 1, correlations: -1 to 1); the papers print it times 100.

Degenerate predictions are what a failed fine-tuning run gives, so each has a defined number, that of scikit-learn and
scipy: F1 without one true positive is 0; Matthews' correlation with a constant on either side is 0; Pearson's and
Spearman's with a constant on either side, a single example or a prediction that is not finite are nan.
"""

import math
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

Metric = Literal["accuracy", "f1", "matthews_correlation", "pearson", "spearman"]
Logits = Float[Tensor, "examples labels"]
References = Int[Tensor, "examples"] | Float[Tensor, "examples"]


def score(metrics: Sequence[Metric], logits: Logits, references: References) -> dict[str, float]:
    """The named metrics of one set of predictions.

    `logits` has a column for each label, or one column, the predicted number, for `pearson` and `spearman`.
    A metric that does not exist, shapes that differ, no example at all, or a label without a column is a ValueError.
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
    from torchmetrics.functional.classification import multiclass_accuracy

    predictions, labels = _classes(logits, references)
    return float(multiclass_accuracy(predictions, labels, num_classes=logits.shape[1], average="micro"))


def _f1(logits: Logits, references: References) -> float:
    from torchmetrics.functional.classification import binary_f1_score

    if logits.shape[1] != 2:
        raise ValueError(f"f1 is that of label 1 of two; there are {logits.shape[1]} labels")
    return float(binary_f1_score(*_classes(logits, references)))


def _matthews_correlation(logits: Logits, references: References) -> float:
    """Of two labels or, as Gorodkin's R_K, of more."""
    from torchmetrics.functional.classification import multiclass_matthews_corrcoef

    predictions, labels = _classes(logits, references)
    if _constant(predictions) or _constant(labels):  # torchmetrics gives 1, -1 or a limit value here, by the case
        return 0.0
    return float(multiclass_matthews_corrcoef(predictions, labels, num_classes=logits.shape[1]))


def _pearson(logits: Logits, references: References) -> float:
    return _correlation(*_numbers(logits, references))


def _spearman(logits: Logits, references: References) -> float:
    """Pearson's correlation of the ranks; torchmetrics' own adds 1e-6 to the denominator, and gives a constant 0."""
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
        raise ValueError(f"a correlation is of one predicted number, not of {logits.shape[1]} logits")
    return logits[:, 0].double(), references.double()


def _correlation(a: Float[Tensor, "examples"], b: Float[Tensor, "examples"]) -> float:
    from torchmetrics.functional.regression import pearson_corrcoef

    if not (a.isfinite().all() and b.isfinite().all()) or _constant(a) or _constant(b):
        return math.nan
    return float(pearson_corrcoef(a, b))


def _constant(values: Tensor) -> bool:
    return bool((values == values[0]).all())


def _ranks(values: Float[Tensor, "examples"]) -> Float[Tensor, "examples"]:
    """Ranks from 1; ties get the mean of their ranks."""
    _, indices, counts = torch.unique(values, return_inverse=True, return_counts=True)
    return (counts.cumsum(0) - (counts - 1) / 2).double()[indices]


METRICS: dict[Metric, Callable[[Logits, References], float]] = {
    "accuracy": _accuracy,
    "f1": _f1,
    "matthews_correlation": _matthews_correlation,
    "pearson": _pearson,
    "spearman": _spearman,
}
