"""A head's labels against those of the data: the same words in another order are put in order, others are refused."""

import logging
from collections.abc import Sequence
from typing import Any

import pytest
import torch

from protoformer.assembly.head_weights import HeadWeights, label_rows
from protoformer.models.hf.labels import fitted, label_words


def head(labels: Sequence[str] | None) -> HeadWeights:
    n = len(labels or [""])
    state = {"linear.weight": torch.arange(n)[:, None].repeat(1, 2), "linear.bias": 10 * torch.arange(n)}
    return HeadWeights(state, "classification", None if labels is None else list(labels), True)


def task(labels: Sequence[str] | None) -> dict[str, Any]:
    return {"kind": "classification", "rows": {"labels": None if labels is None else list(labels)}}


@pytest.mark.parametrize(("of_head", "of_data", "rows"), [
    (["contradiction", "entailment", "neutral"], ["entailment", "neutral", "contradiction"], [1, 2, 0]),
    (["CONTRADICTION", "Neutral", "Entailment"], ["entailment", "neutral", "contradiction"], [2, 1, 0]),
    (["not-entailment", "entailment"], ["entailment", "not_entailment"], [1, 0]),
    (["a", "b"], ["a", "b"], [0, 1]),
    (["LABEL_0", "LABEL_1", "LABEL_2"], ["x", "y", "z"], [0, 1, 2]),
    (["0", "1"], ["no", "yes"], [0, 1]),
    (["LABEL_1", "LABEL_0"], ["no", "yes"], None),
    (["LABEL_0", "LABEL_1"], ["x", "y", "z"], None),
    (["positive", "negative"], ["entailment", "not_entailment"], None),
    (["a", "A"], ["a", "b"], None),
    (["a", "b"], ["a", "A"], None),
])  # fmt: skip
def test_rows_of_labels(of_head: list[str], of_data: list[str], rows: list[int] | None) -> None:
    assert label_rows(of_head, of_data) == rows


def test_rows_are_put_in_the_order_of_the_data_and_the_log_says_so(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    data = task(["entailment", "neutral", "contradiction"])
    arranged = head(["contradiction", "entailment", "neutral"]).arranged(data, "FOLDER")
    assert arranged.fits(data)
    assert arranged.state["linear.bias"].tolist() == [10, 20, 0]
    assert arranged.state["linear.weight"][:, 0].tolist() == [1, 2, 0]
    assert "FOLDER: its labels ['contradiction', 'entailment', 'neutral'] are put in the order" in caplog.text


def test_labels_without_words_are_taken_by_number(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    data = task(["no", "yes"])
    arranged = head(["LABEL_0", "LABEL_1"]).arranged(data, "FOLDER")
    assert arranged.fits(data)
    assert arranged.state["linear.bias"].tolist() == [0, 10]
    assert "its labels have no words (LABEL_0, LABEL_1): taken by number for ['no', 'yes']" in caplog.text


@pytest.mark.parametrize(
    ("of_head", "of_data"), [(["good", "bad"], ["a", "b"]), (None, ["a", "b"]), (["a", "b"], None)]
)
def test_other_heads_stay_as_they_are(of_head: list[str] | None, of_data: list[str] | None) -> None:
    before = head(of_head)
    assert before.arranged(task(of_data), "FOLDER") is before
    assert not before.fits(task(of_data))


@pytest.mark.parametrize(("config", "rows", "labels"), [
    ({}, 2, ["LABEL_0", "LABEL_1"]),
    ({"num_labels": 3}, 3, ["LABEL_0", "LABEL_1", "LABEL_2"]),
    ({"num_labels": 3, "id2label": {"0": "a", "1": "b"}}, 3, ["a", "b", "LABEL_2"]),
    ({"num_labels": 2, "id2label": {"0": "a", "1": "b", "2": "c"}}, 2, ["a", "b"]),
    ({"id2label": {"0": "a", "1": "b"}}, 4, ["a", "b", "LABEL_2", "LABEL_3"]),
    ({"id2label": {"0": "a", "2": "c"}}, 3, ["a", "LABEL_1", "c"]),
    ({"label2id": {"b": 1, "a": 0}}, 2, ["a", "b"]),
    ({"id2label": {"0": "score"}}, 1, None),
    ({"num_labels": 1}, 1, None),
    ({"id2label": {"0": "a", "1": "b"}, "problem_type": "regression"}, 2, None),
])  # fmt: skip
def test_words_of_a_head_whatever_their_number(config: dict[str, Any], rows: int, labels: list[str] | None) -> None:
    assert fitted(label_words(config), rows) == labels
