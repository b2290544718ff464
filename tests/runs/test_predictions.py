"""Predictions and the scores of single examples on disk."""

import json
from pathlib import Path

import pytest

from protoformer.runs import predictions

ROWS = [{"id": 0, "prediction": "é", "label": "a"}, {"id": 3, "prediction": "b", "label": "b"}]


def lines(file: Path) -> list[dict]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def test_predictions_are_a_line_a_row_with_further_files_in_a_folder(tmp_path: Path) -> None:
    predictions.write(tmp_path, "val", iter(ROWS), {"nbest.json": {"q": [1]}})
    assert lines(tmp_path / "val.jsonl") == ROWS
    assert "é" in (tmp_path / "val.jsonl").read_text(encoding="utf-8")
    assert json.loads((tmp_path / "val" / "nbest.json").read_text()) == {"q": [1]}


def test_without_rows_there_is_no_file(tmp_path: Path) -> None:
    predictions.write(tmp_path, "val", [], {})
    predictions.write_scores(tmp_path, "val", [0, 3], {})
    assert list(tmp_path.iterdir()) == []


def test_scores_go_by_the_id_of_the_row(tmp_path: Path) -> None:
    predictions.write_scores(tmp_path, "val", [0, 3], {"accuracy": [0.0, 1.0], "f1": [0.5, 1.0]})
    assert lines(tmp_path / "val.jsonl") == [
        {"id": 0, "accuracy": 0.0, "f1": 0.5},
        {"id": 3, "accuracy": 1.0, "f1": 1.0},
    ]


def test_sums_and_shared_passages_stand_beside_the_scores(tmp_path: Path) -> None:
    passages = ["a", "b", "c", "a"]
    sums = {"log_likelihood": [-3.0, -2.0], "tokens": [2.0, 1.0]}
    predictions.write_scores(tmp_path, "val", [0, 3], {"f1": [0.5, 1.0]}, sums=sums, passages=passages)
    assert lines(tmp_path / "val.jsonl") == [
        {"id": 0, "f1": 0.5, "cluster": 0, "sums": {"log_likelihood": -3.0, "tokens": 2.0}},
        {"id": 3, "f1": 1.0, "cluster": 0, "sums": {"log_likelihood": -2.0, "tokens": 1.0}},
    ]
    predictions.write_scores(tmp_path, "test", [0, 1], {}, sums=sums, passages=passages)
    assert "cluster" not in lines(tmp_path / "test.jsonl")[0]  # none is shared


def test_a_ratio_is_of_two_sums(tmp_path: Path) -> None:
    ratios = {"heq_q": ([1.0, 0.0], [1.0, 1.0]), "heq_d": ([0.0, 0.0], [1.0, 0.0])}
    predictions.write_scores(tmp_path, "val", [0, 3], {}, ratios=ratios)
    assert lines(tmp_path / "val.jsonl") == [
        {"id": 0, "ratios": {"heq_q": [1.0, 1.0], "heq_d": [0.0, 1.0]}},
        {"id": 3, "ratios": {"heq_q": [0.0, 1.0], "heq_d": [0.0, 0.0]}},
    ]


def test_as_many_scores_as_rows(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="zip"):
        predictions.write_scores(tmp_path, "val", [0, 3], {"accuracy": [1.0]})


def test_rows_hold_the_texts_of_their_examples(tmp_path: Path) -> None:
    rows = [{"id": 2, "prediction": "a"}, {"id": 0, "prediction": "b"}]
    texts = {"premise": ["x\n", "y", 'z "\u2028'], "choices": [["p", "q"], [], ["r"]]}
    predictions.write(tmp_path, "val", predictions.with_columns(rows, "texts", texts), {})
    lines = (tmp_path / "val.jsonl").read_text(encoding="utf-8").split("\n")[:-1]
    assert [json.loads(line)["texts"] for line in lines] == [
        {"premise": 'z "\u2028', "choices": ["r"]},
        {"premise": "x\n", "choices": ["p", "q"]},
    ]
    assert list(predictions.with_columns(rows, "texts", {})) == rows
