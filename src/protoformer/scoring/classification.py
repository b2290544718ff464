"""Metrics of a classifier or a regression: by name, or any of torchmetrics; scores of each class; the confusion matrix.

Those by name are GLUE's (see `glue`) and the usual means over classes, as in scikit-learn: `macro` is the mean over the classes
that occur among references or predictions, `weighted` weighs it by how often each is the reference. `f1`, `precision` and
`recall` are those of the second of two labels. `auroc`, the area under the ROC curve, is that of the second of two labels, or
the mean over labels of one against the rest; where the references hold one class alone it is nan.
"""

import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torchmetrics import Metric as TorchMetric
from torchmetrics.functional.classification import (
    binary_auroc,
    binary_precision,
    binary_recall,
    multiclass_confusion_matrix,
    multiclass_f1_score,
    multiclass_precision,
    multiclass_recall,
)

from protoformer.scoring import glue

MetricName = Literal[
    "accuracy", "f1", "f1_macro", "f1_weighted", "precision", "precision_macro", "precision_weighted", "recall",
    "recall_macro", "recall_weighted", "auroc", "matthews_correlation", "confusion_matrix", "pearson", "spearman",
]  # fmt: skip
OF_NUMBERS = ("pearson", "spearman")  # of a regression
OF_TWO_LABELS = ("f1", "precision", "recall")
CONFUSION_MATRIX = (
    "confusion_matrix"  # no score: it asks for the matrix of a task of many labels, and for it in the report
)
MAX_CLASSES = 50  # of a task whose matrix is kept unasked


def score(
    metrics: Sequence[MetricName], logits: Float[Tensor, "examples labels"], references: Tensor
) -> dict[str, float]:
    """The named metrics of one set of predictions (`logits` as for `glue.score`). Raises ValueError as `glue.score`."""
    scores: dict[str, float] = {}
    for name in metrics:
        if name in glue.METRICS:
            scores |= glue.score([name], logits, references)
        elif name != CONFUSION_MATRIX:
            scores[name] = METRICS[name](logits, references.long())
    return scores


def check_metrics(metrics: Sequence[MetricName | TorchMetric], labels: Sequence[str] | None) -> None:
    """Raise ValueError for metrics that are not defined for these labels (None: regression), or none that is a score."""
    for metric in metrics:
        if isinstance(metric, TorchMetric):
            torchmetrics_scores([metric], *_dummy_predictions(labels), labels)
        elif (labels is None) != (metric in OF_NUMBERS):
            names = ", ".join(OF_NUMBERS) if labels is None else "accuracy, f1_macro, auroc, ..."
            raise ValueError(
                f"metrics: {metric} is no metric of {'numbers' if labels is None else 'labels'}; {names} are"
            )
        elif metric in OF_TWO_LABELS and labels is not None and len(labels) != 2:
            raise ValueError(
                f"metrics: {metric} is that of the second of two labels; there are {len(labels)} "
                f"({', '.join(labels[:5])}{', ...' if len(labels) > 5 else ''}): choose {metric}_macro or {metric}_weighted"
            )
    if not any(is_score(metric) for metric in metrics):
        raise ValueError(
            "metrics: none of them is a score, a number of which more is better; name one, such as "
            f"{'spearman' if labels is None else 'accuracy'}"
        )


def is_score(metric: MetricName | TorchMetric) -> bool:
    """Whether more of it is better, so that the best checkpoint can be chosen by it."""
    return bool(metric.higher_is_better) if isinstance(metric, TorchMetric) else metric != CONFUSION_MATRIX


def metric_names(metrics: Sequence[MetricName | TorchMetric]) -> list[str]:
    """The name of each metric in results: of a class of torchmetrics that in small letters, numbered where it comes again."""
    names: list[str] = []
    for metric in metrics:
        name = metric if isinstance(metric, str) else _snake_case(type(metric).__name__)
        number = sum(re.fullmatch(rf"{re.escape(name)}(_\d+)?", each) is not None for each in names)
        names.append(f"{name}_{number + 1}" if number else name)
    return names


def percent_names(metrics: Sequence[MetricName | TorchMetric]) -> frozenset[str]:
    """Names of the metrics that lie between 0 (or -1) and 1, and are printed times 100."""
    pairs = zip(metrics, metric_names(metrics), strict=True)
    return frozenset(name for each, name in pairs if isinstance(each, str) or each.plot_upper_bound == 1.0)


def torchmetrics_scores(
    metrics: Sequence[TorchMetric],
    logits: Float[Tensor, "examples labels"],
    references: Tensor,
    labels: Sequence[str] | None,
) -> list[dict[str, float]]:
    """Values of each metric: {"": value} of a number, one by label where it gives one a label.

    A metric of labels is given their probabilities (a `Binary...` metric that of the second of two), one of numbers the
    numbers. Raises ValueError for a metric that does not take them, or gives something else.
    """
    return [_values(metric, logits.detach().cpu(), references.detach().cpu(), labels) for metric in metrics]


def class_scores(
    logits: Float[Tensor, "examples labels"], references: Int[Tensor, "examples"], labels: Sequence[str]
) -> dict[str, object]:
    """Of each label precision, recall, F1 and the number of references; and the confusion matrix, a row a reference."""
    predictions, number = logits.argmax(1).cpu(), len(labels)
    references = references.long().cpu()
    of_each = {
        "precision": multiclass_precision(predictions, references, num_classes=number, average=None),
        "recall": multiclass_recall(predictions, references, num_classes=number, average=None),
        "f1": multiclass_f1_score(predictions, references, num_classes=number, average=None),
    }
    return {
        "labels": list(labels),
        **{name: [round(float(value), 6) for value in values] for name, values in of_each.items()},
        "references": references.bincount(minlength=number).tolist(),
        CONFUSION_MATRIX: multiclass_confusion_matrix(predictions, references, num_classes=number).tolist(),
    }


def _averaged(function: Callable[..., Tensor], average: str, logits: Tensor, references: Tensor) -> float:
    return float(function(logits.argmax(1), references, num_classes=logits.shape[1], average=average))


def _of_second_label(function: Callable[..., Tensor], logits: Tensor, references: Tensor) -> float:
    return float(function(logits.argmax(1), references))


def _auroc(logits: Tensor, references: Tensor) -> float:
    """The mean over labels that are the reference of some rows and not of others; of two labels that of the second."""
    probs, number = logits.double().softmax(1), logits.shape[1]
    counts = references.bincount(minlength=number)
    occurring = [label for label in range(number) if 0 < counts[label] < len(references)]
    if not occurring:
        return float("nan")
    scored_labels = [1] if number == 2 else occurring
    areas = [float(binary_auroc(probs[:, label], (references == label).long())) for label in scored_labels]
    return sum(areas) / len(areas)


METRICS: Mapping[str, Callable[[Tensor, Tensor], float]] = {
    **{
        f"{name}_{average}": partial(_averaged, function, average)
        for name, function in (
            ("f1", multiclass_f1_score),
            ("precision", multiclass_precision),
            ("recall", multiclass_recall),
        )
        for average in ("macro", "weighted")
    },
    "precision": partial(_of_second_label, binary_precision),
    "recall": partial(_of_second_label, binary_recall),
    "auroc": _auroc,
}


def _values(metric: TorchMetric, logits: Tensor, references: Tensor, labels: Sequence[str] | None) -> dict[str, float]:
    name = type(metric).__name__
    if labels is None:
        predictions = logits[:, 0]
    else:
        predictions, references = logits.softmax(1), references.long()
        if name.startswith("Binary"):
            if len(labels) != 2:
                raise ValueError(
                    f"metrics: {name} is for two labels; there are {len(labels)}: choose Multi{'class' + name[6:]}"
                )
            predictions = predictions[:, 1]
    metric.sync_on_compute = False  # every rank has the whole split
    metric.reset()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            metric.update(predictions, references)
            value = metric.compute()
    except (ValueError, RuntimeError, TypeError) as error:
        raise ValueError(
            f"metrics: {name} does not take these predictions ({' '.join(str(error).split())[:200]})"
        ) from error
    finally:
        metric.reset()
    if isinstance(value, Tensor) and value.numel() == 1:
        return {"": float(value)}
    if isinstance(value, Tensor) and labels is not None and value.shape == (len(labels),):
        return {label: float(each) for label, each in zip(labels, value, strict=True)}
    raise ValueError(f"metrics: {name} gives neither a number nor one a label")


def _dummy_predictions(labels: Sequence[str] | None) -> tuple[Tensor, Tensor]:
    """Logits and references on which a metric is tried before anything is trained; every label occurs."""
    if labels is None:
        return torch.tensor([[0.1], [0.5], [0.9], [0.2]]), torch.tensor([0.2, 0.4, 0.8, 0.1])
    references = torch.arange(len(labels)).repeat(4)
    return torch.eye(len(labels)).repeat(4, 1) + 0.01 * torch.arange(len(labels)), references


def _snake_case(name: str) -> str:
    """MulticlassF1Score -> multiclass_f1_score, BinaryAUROC -> binary_auroc."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z0-9])(?=[A-Z][a-z])", "_", name).lower()
