"""ROUGE of summaries: numbers counted by hand."""

import pytest

from protoformer.scoring.rouge import rouge


def test_rouge_counted_by_hand() -> None:
    scores = rouge(["the cat sat down", ""], [["the cat lay down now"], ["a dog"]])
    assert scores["rouge1"] == pytest.approx([2 * 3 / (4 + 5), 0])  # the, cat, down
    assert scores["rouge2"] == pytest.approx([2 * 1 / (3 + 4), 0])  # the cat
    assert scores["rougeL"] == pytest.approx([2 * 3 / (4 + 5), 0])  # the cat ... down


def test_the_best_reference_counts() -> None:
    assert rouge(["one two"], [["three", "one two"]])["rouge1"] == pytest.approx([1.0])
