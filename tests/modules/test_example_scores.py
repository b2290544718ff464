"""Scores of single examples: their means are the metrics of the split, and hidden references have none."""

import dataclasses
from collections.abc import Sequence
from statistics import fmean

import pytest
import torch

from protoformer.modules.evaluation import Evaluation, calibrations
from protoformer.modules.kinds.classification_evaluation import ClassificationEvaluation
from protoformer.modules.kinds.span import SpanEvaluation
from protoformer.scoring import glue, spans, squad
from protoformer.scoring.calibration import AnswerScores, LabelScores
from protoformer.scoring.spans import Answer

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
    numbers = classified([0, 1, 2], labels=None)
    assert numbers.example_scores() == {}
    assert numbers.example_sums() == {"prediction": [2.0, 0.0, 3.0], "reference": [0, 1, 2]}
    assert classified([0, 1, 1]).example_sums() == {}
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


def test_labels_have_confidences_where_references_are_known() -> None:
    scores = classified([0, -1, 1]).confidences()
    assert isinstance(scores, LabelScores)
    assert scores.references.tolist() == [0, 1]
    assert scores.logits.tolist() == [[2.0, 1.0], [3.0, 0.5]]
    assert classified([-1, -1, -1]).confidences() is None
    assert classified([0, 1, 2], labels=None).confidences() is None


def test_the_confidence_of_an_answer_is_its_probability_among_the_n_best() -> None:
    """Of no answer, too; an answer is right by exact match."""
    n_best = {
        "a": spans.n_best([Answer("red cat", 2.0, 1.0), Answer("cat", 1.0, 1.0)], Answer("", 0.0, 0.5)),
        "b": spans.n_best([Answer("dog", 0.0, 0.0)], Answer("", 3.0, 1.0)),
    }
    predictions, gold = {"a": "red cat", "b": ""}, {"a": ("the red cat",), "b": ("dog",)}
    evaluation = SpanEvaluation(scores={}, other_metrics={}, n_best=n_best, predictions=predictions, gold=gold)
    scores = evaluation.confidences()
    assert isinstance(scores, AnswerScores)
    assert scores.right.tolist() == [True, False]
    confidences = [next(a.probability for a in n_best[name] if a.text == text) for name, text in predictions.items()]
    assert scores.calibration().confidence == pytest.approx(fmean(confidences))
    hidden = SpanEvaluation(scores={}, other_metrics={}, n_best=n_best, predictions=predictions, gold=None)
    assert hidden.confidences() is None


def test_a_temperature_is_of_the_first_validation_split_and_is_applied_to_all() -> None:
    generator = torch.Generator().manual_seed(0)

    def evaluation(count: int) -> ClassificationEvaluation:
        logits = torch.randn(count, 2, generator=generator) * 3
        references = (torch.rand(count, generator=generator) > (logits / 2).softmax(-1)[:, 0]).long()
        ids = torch.arange(count)
        return ClassificationEvaluation(
            scores={}, other_metrics={}, ids=ids, logits=logits, references=references, labels=("no", "yes")
        )

    matched, mismatched, test = evaluation(400), evaluation(300), evaluation(200)
    found = calibrations({"val": {"matched": matched, "mismatched": mismatched}, "test": {"": test}})
    assert list(found) == ["val/matched", "val/mismatched", "test"]
    scores = matched.confidences()
    assert scores is not None
    fitted = scores.temperature()
    for name, split in (("val/matched", matched), ("val/mismatched", mismatched), ("test", test)):
        assert found[name]["temperature"] == {**fitted._asdict(), "fitted_on": "val/matched"}
        own = split.confidences()
        assert own is not None
        assert found[name]["scaled"] == own.calibration(fitted.value).as_json()
    assert "temperature" not in calibrations({"test": {"": test}})["test"]
    assert calibrations({"val": {"": Evaluation(scores={}, other_metrics={})}}) == {}
    diverged = dataclasses.replace(test, logits=torch.full_like(test.logits, float("nan")))
    assert calibrations({"val": {"": diverged}}) == {}
