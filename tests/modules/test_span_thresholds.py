"""The threshold of no answer: searched on dev, given, taken over to the test split; the files of predictions."""

import json
import math
from pathlib import Path

import pytest
import torch

from protoformer.errors import ConfigurationError
from protoformer.runs import predictions
from protoformer.scoring import spans, squad

from .span_cases import best, data, eval_outputs, evaluated, fix_logits, module, random_words, table, unanswerable


def test_the_threshold_is_the_best_of_all(tmp_path: Path) -> None:
    datamodule, answers = unanswerable(tmp_path)
    gold = {f"q{i}": texts for i, texts in enumerate(answers)}
    _, evaluation, _ = evaluated(datamodule)
    odds = {}
    for name, n_best in evaluation.n_best.items():
        scores = {a.text: a.score for a in n_best}
        odds[name] = scores.pop("") - max(scores.values())
    assert evaluation.null_odds == pytest.approx(odds)
    best = {name: next(a.text for a in n_best if a.text) for name, n_best in evaluation.n_best.items()}
    tried = {
        threshold: squad.score({name: text if odds[name] <= threshold else "" for name, text in best.items()}, gold)
        for threshold in sorted([min(odds.values()) - 1, *odds.values()])
    }
    numbers = evaluation.other_metrics
    for metric in ("exact_match", "f1"):
        most = max(scores[metric] for scores in tried.values())
        threshold = min(t for t, scores in tried.items() if scores[metric] == pytest.approx(most))
        assert numbers[f"best_{metric}"] == pytest.approx(most)
        assert numbers[f"best_{metric}_threshold"] == pytest.approx(threshold)
    assert numbers["null_threshold"] == numbers["best_f1_threshold"]
    assert min(odds.values()) - 1 < numbers["null_threshold"] < max(odds.values())  # some have an answer, some none
    assert evaluation.scores["f1"] == pytest.approx(numbers["best_f1"])
    assert 0.3 < evaluation.scores["f1"] < 1
    parts = squad.score(evaluation.predictions, gold)
    assert {name: numbers[name] for name in parts if "/" in name} == {k: v for k, v in parts.items() if "/" in k}
    assert set(numbers) == {
        "loss", "null_threshold", "best_f1", "best_f1_threshold", "best_exact_match", "best_exact_match_threshold",
        "HasAns/exact_match", "HasAns/f1", "NoAns/exact_match", "NoAns/f1",
    }  # fmt: skip


def test_a_given_threshold_is_taken_as_it_is(tmp_path: Path) -> None:
    datamodule, answers = unanswerable(tmp_path)
    for threshold in (-1e9, 0.0, 1e9):
        _, evaluation, _ = evaluated(datamodule, null_threshold=threshold)
        assert evaluation.other_metrics["null_threshold"] == threshold
        assert evaluation.predictions == {
            name: best(n_best) if evaluation.null_odds[name] <= threshold else ""
            for name, n_best in evaluation.n_best.items()
        }
    assert all(evaluation.predictions.values())
    assert evaluation.scores["f1"] < evaluation.other_metrics["best_f1"]
    assert len(answers) == len(evaluation.predictions)


def test_hidden_answers_take_the_threshold_of_dev(tmp_path: Path) -> None:
    datamodule, _ = unanswerable(tmp_path)
    ours, dev, _ = evaluated(datamodule)
    outputs = ours.evaluate("test", "", eval_outputs(ours, datamodule.test_dataloader()[0]))
    assert outputs.gold is None
    assert outputs.scores == {}
    assert outputs.other_metrics == {"null_threshold": dev.other_metrics["best_f1_threshold"]}
    threshold = dev.other_metrics["best_f1_threshold"]
    assert outputs.predictions == {
        name: best(answers) if outputs.null_odds[name] <= threshold else "" for name, answers in outputs.n_best.items()
    }
    assert len(outputs.predictions) == 9
    assert [row["label"] for row in outputs.rows()] == [None] * 9
    assert outputs.misclassified([""] * 9) == []


def test_known_test_answers_are_judged_by_the_threshold_of_dev(tmp_path: Path) -> None:
    datamodule, _ = unanswerable(tmp_path, hidden=False)
    ours, dev, _ = evaluated(datamodule)
    outputs = ours.evaluate("test", "", eval_outputs(ours, datamodule.test_dataloader()[0]))
    assert outputs.other_metrics["null_threshold"] == dev.other_metrics["best_f1_threshold"]
    assert outputs.other_metrics["best_f1"] >= outputs.scores["f1"]


def test_without_a_development_split_a_threshold_must_be_given(tmp_path: Path) -> None:
    nothing = {"val": [], "test": [""]}
    with pytest.raises(ConfigurationError, match=r"no development split .* add task\.module\.null_threshold=<number>"):
        module(unanswerable=True, splits=nothing)
    assert module(unanswerable=True, splits=nothing, null_threshold=1.5).null_threshold == 1.5
    module(splits=nothing)
    contexts = [random_words(10, 0)]
    datamodule = data(tmp_path, True, validation=table(contexts, [[]]), test=table(contexts, None))
    ours = module(unanswerable=True)
    fix_logits(ours, 1)
    ours.references = {"test": {"": datamodule.references("test", "")}}
    with pytest.raises(ConfigurationError, match=r"hides its answers"):
        ours.evaluate("test", "", eval_outputs(ours, datamodule.test_dataloader()[0]))


def test_questions_of_which_every_candidate_is_nothing(tmp_path: Path) -> None:
    datamodule, _ = unanswerable(tmp_path)
    for settings in ({}, {"null_threshold": 0.0}):
        ours, _, columns = evaluated(datamodule, **settings)
        none = torch.full_like(columns[3], spans.NEG_INF)
        nothing = (*columns[:3], none, none, *columns[5:])
        evaluation = ours.evaluate("val", "", nothing)
        assert set(evaluation.predictions.values()) == {""}
        assert evaluation.scores["f1"] == pytest.approx(1 / 3)
        json.dumps(evaluation.files(), allow_nan=False)
        some = columns[3].clone()
        some[::2] = spans.NEG_INF
        evaluation = ours.evaluate("val", "", (*columns[:3], some, some, *columns[5:]))
        json.dumps([evaluation.files(), dict(evaluation.other_metrics)], allow_nan=False)
        assert "" in evaluation.predictions.values()
    plain = module()
    plain.references = ours.references
    assert set(plain.evaluate("val", "", nothing).predictions.values()) == {""}


def test_the_official_files(tmp_path: Path) -> None:
    datamodule, _ = unanswerable(tmp_path)
    ours, evaluation, columns = evaluated(datamodule)
    nothing = columns[3].clone()
    nothing[0] = spans.NEG_INF
    evaluation = ours.evaluate("val", "", (*columns[:3], nothing, nothing, *columns[5:]))
    assert math.inf in evaluation.null_odds.values()
    predictions.write(tmp_path / "predictions", "val", evaluation.rows(), evaluation.files())
    folder = tmp_path / "predictions" / "val"
    assert sorted(path.name for path in folder.iterdir()) == [
        "nbest_predictions.json", "null_odds.json", "predictions.json"
    ]  # fmt: skip

    def never(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    predicted, n_best, odds = (
        json.loads((folder / name).read_text(), parse_constant=never)
        for name in ("predictions.json", "nbest_predictions.json", "null_odds.json")
    )
    names = [f"q{i}" for i in range(24)]
    assert list(predicted) == list(n_best) == list(odds) == names
    assert predicted == evaluation.predictions
    assert all(isinstance(value, float) and math.isfinite(value) for value in odds.values())
    for answers in n_best.values():
        assert sum(answer["probability"] for answer in answers) == pytest.approx(1)
        sums = [answer["start_logit"] + answer["end_logit"] for answer in answers]
        assert sums == sorted(sums, reverse=True)
        assert all(list(answer) == ["text", "probability", "start_logit", "end_logit"] for answer in answers)
        assert sum(not answer["text"] for answer in answers) == 1
    lines = [json.loads(line) for line in (tmp_path / "predictions" / "val.jsonl").read_text().splitlines()]
    assert [line["question"] for line in lines] == names
    assert [line["prediction"] for line in lines] == list(predicted.values())
    wrong = [row for row in lines if not squad.exact_match(row["prediction"], row["label"])]
    misclassified = evaluation.misclassified([f"text {i}" for i in range(24)])
    assert sorted(row[0] for row in misclassified) == sorted(f"text {row['id']}" for row in wrong)
    assert [row[3] for row in misclassified] == sorted((row[3] for row in misclassified), reverse=True)
    plain = module()
    plain.references = ours.references
    assert set(plain.evaluate("val", "", columns).files()) == {"predictions.json", "nbest_predictions.json"}
