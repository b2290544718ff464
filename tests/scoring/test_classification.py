"""Metrics by name against scikit-learn, metrics of torchmetrics, and what is refused before anything is trained."""

import math

import numpy as np
import pytest
import torch
from sklearn import metrics as sk
from torch import Tensor
from torchmetrics.classification import BinaryF1Score, MulticlassAccuracy, MulticlassCalibrationError, MulticlassF1Score
from torchmetrics.regression import MeanAbsoluteError, R2Score

from protoformer.scoring import classification as scoring

LABELS = ["negative", "neutral", "positive"]


def predictions(n: int, n_labels: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(n * n_labels)
    logits = torch.randn(n, n_labels, generator=generator)
    references = torch.randint(0, n_labels, (n,), generator=generator)
    logits[torch.arange(n), references] += 0.7
    return logits, references


@pytest.mark.parametrize("n_labels", [2, 3, 5])
@pytest.mark.parametrize("average", ["macro", "weighted"])
def test_means_over_labels_equal_scikit_learn(n_labels: int, average: str) -> None:
    logits, references = predictions(200, n_labels)
    chosen = logits.argmax(1).numpy()
    ours = scoring.score([f"{name}_{average}" for name in ("f1", "precision", "recall")], logits, references)
    oracle = sk.precision_recall_fscore_support(references.numpy(), chosen, average=average)
    for name, value in zip(("precision", "recall", "f1"), oracle[:3], strict=True):
        assert ours[f"{name}_{average}"] == pytest.approx(value, abs=1e-6)


def test_metrics_of_two_labels_are_those_of_the_second() -> None:
    logits, references = predictions(300, 2)
    chosen, probs = logits.argmax(1).numpy(), logits.double().softmax(1).numpy()
    ours = scoring.score(["f1", "precision", "recall", "auroc"], logits, references)
    gold = references.numpy()
    assert ours["f1"] == pytest.approx(sk.f1_score(gold, chosen), abs=1e-6)
    assert ours["precision"] == pytest.approx(sk.precision_score(gold, chosen), abs=1e-6)
    assert ours["recall"] == pytest.approx(sk.recall_score(gold, chosen), abs=1e-6)
    assert ours["auroc"] == pytest.approx(sk.roc_auc_score(gold, probs[:, 1]), abs=1e-6)


def test_auroc_of_more_labels_is_the_mean_of_one_against_the_rest() -> None:
    logits, references = predictions(300, 4)
    oracle = sk.roc_auc_score(references.numpy(), logits.double().softmax(1).numpy(), multi_class="ovr")
    assert scoring.score(["auroc"], logits, references)["auroc"] == pytest.approx(oracle, abs=1e-6)
    assert math.isnan(scoring.score(["auroc"], logits, torch.zeros_like(references))["auroc"])


def test_scores_of_each_class_and_the_confusion_matrix() -> None:
    logits, references = predictions(100, 3)
    chosen = logits.argmax(1).numpy()
    scores = scoring.class_scores(logits, references, LABELS)
    assert scores["labels"] == LABELS
    assert np.array_equal(scores["confusion_matrix"], sk.confusion_matrix(references.numpy(), chosen))
    precision, recall, f1, support = sk.precision_recall_fscore_support(references.numpy(), chosen)
    for name, oracle in (("precision", precision), ("recall", recall), ("f1", f1), ("references", support)):
        assert scores[name] == pytest.approx(list(oracle), abs=1e-6), name


@pytest.mark.parametrize("metric", ["f1", "precision", "recall"])
def test_a_metric_of_two_labels_is_refused_for_three(metric: str) -> None:
    with pytest.raises(
        ValueError, match=f"3 .negative, neutral, positive.: choose {metric}_macro or {metric}_weighted"
    ):
        scoring.check_metrics(["accuracy", metric], LABELS)
    scoring.check_metrics([metric], LABELS[:2])


def test_metrics_of_numbers_and_of_labels_are_kept_apart() -> None:
    with pytest.raises(ValueError, match="accuracy is no metric of numbers; pearson, spearman are"):
        scoring.check_metrics(["accuracy"], None)
    with pytest.raises(ValueError, match="pearson is no metric of labels"):
        scoring.check_metrics(["pearson"], LABELS)
    with pytest.raises(ValueError, match="none of them is a score"):
        scoring.check_metrics(["confusion_matrix"], LABELS)


def test_metrics_of_torchmetrics() -> None:
    logits, references = predictions(100, 3)
    metrics = [MulticlassF1Score(num_classes=3), MulticlassF1Score(num_classes=3, average=None)]
    scoring.check_metrics(metrics, LABELS)
    assert scoring.metric_names(metrics) == ["multiclass_f1_score", "multiclass_f1_score_2"]
    mean, each = scoring.torchmetrics_scores(metrics, logits, references, LABELS)
    assert mean[""] == pytest.approx(sk.f1_score(references, logits.argmax(1), average="macro"), abs=1e-6)
    assert list(each) == LABELS
    assert each["neutral"] == pytest.approx(sk.f1_score(references, logits.argmax(1), average=None)[1], abs=1e-6)
    numbers = scoring.torchmetrics_scores(
        [MeanAbsoluteError()], torch.tensor([[1.0], [3.0]]), torch.tensor([1.0, 1.0]), None
    )
    assert numbers == [{"": 1.0}]


def test_what_torchmetrics_does_not_take_is_refused_beforehand() -> None:
    with pytest.raises(ValueError, match="BinaryF1Score is for two labels; there are 3: choose MulticlassF1Score"):
        scoring.check_metrics([BinaryF1Score()], LABELS)
    with pytest.raises(ValueError, match="MulticlassAccuracy does not take these predictions"):
        scoring.check_metrics([MulticlassAccuracy(num_classes=2)], LABELS)
    with pytest.raises(ValueError, match="none of them is a score"):
        scoring.check_metrics([MulticlassCalibrationError(num_classes=3)], LABELS)
    scoring.check_metrics([R2Score()], None)


def test_percent_metrics_are_those_between_0_and_1() -> None:
    metrics = ["accuracy", MulticlassF1Score(num_classes=3), MeanAbsoluteError()]
    assert scoring.percent_names(metrics) == {"accuracy", "multiclass_f1_score"}
