"""Scores of single examples: their means are the metrics of the split, and hidden references have none."""

from collections.abc import Sequence
from statistics import fmean

import pytest
import torch

from protoformer.modules.evaluation import Evaluation
from protoformer.modules.kinds.classification_evaluation import ClassificationEvaluation
from protoformer.modules.kinds.span import SpanEvaluation
from protoformer.scoring import glue, squad

LOGITS = torch.tensor([[2.0, 1.0], [0.0, 1.0], [3.0, 0.5]])


def classified(references: list[int], labels: Sequence[str] | None = ("no", "yes")) -> ClassificationEvaluation:
    return ClassificationEvaluation(
        scores={},
        other_metrics={},
        ids=torch.arange(3),
        logits=LOGITS,
        references=torch.tensor(references),
        labels=labels,
    )


def test_the_mean_over_examples_is_the_accuracy() -> None:
    scores = classified([0, 0, 0]).example_scores()
    assert scores == {"accuracy": [1.0, 0.0, 1.0]}
    assert fmean(scores["accuracy"]) == pytest.approx(glue.score(["accuracy"], LOGITS, torch.zeros(3))["accuracy"])


def test_numbers_and_hidden_labels_have_no_example_scores() -> None:
    assert classified([0, 1, 2], labels=None).example_scores() == {}
    assert classified([-1, -1, -1]).example_scores() == {}
    assert Evaluation(scores={}, other_metrics={}).example_scores() == {}


def test_answers_are_scored_in_the_order_of_the_rows() -> None:
    predictions, gold = {"b": "red cat", "a": ""}, {"a": (), "b": ("the red cat sat", "cat")}
    evaluation = SpanEvaluation(scores={}, other_metrics={}, n_best={}, predictions=predictions, gold=gold)
    scores = evaluation.example_scores()
    assert [row["question"] for row in evaluation.rows()] == ["b", "a"]
    assert scores == {"exact_match": [0.0, 1.0], "f1": [pytest.approx(0.8), 1.0]}
    means = squad.score(predictions, gold)
    assert {name: fmean(values) for name, values in scores.items()} == pytest.approx(
        {name: means[name] for name in ("exact_match", "f1")}
    )
    assert (
        SpanEvaluation(scores={}, other_metrics={}, n_best={}, predictions=predictions, gold=None).example_scores()
        == {}
    )
