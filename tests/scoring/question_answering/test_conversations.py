"""CoQA's and QuAC's numbers, done by hand."""

import pytest

from protoformer.scoring.question_answering.conversations import coqa_exact_match, coqa_f1, quac


def test_each_annotator_is_left_out_in_turn() -> None:
    assert coqa_f1("dog", ["cat", "the dog", "bird"]) == pytest.approx(2 / 3)  # nothing is left of its match once
    assert coqa_exact_match("dog", ["cat", "the dog", "bird"]) == pytest.approx(2 / 3)
    assert coqa_f1("dog", ["cat", "dog", "dog"]) == 1  # the same answer of two annotators counts as two
    assert coqa_f1("red cat", ["cat", "dog"]) == pytest.approx((0 + 2 / 3) / 2)


def test_one_answer_alone_is_compared_with_as_it_is() -> None:
    assert coqa_f1("a red cat", ["cat"]) == pytest.approx(2 / 3)
    assert coqa_exact_match("A cat.", ["cat"]) == 1


def test_quac_counts_what_annotators_agree_on() -> None:
    questions = [  # prediction, annotators, dialog
        ("cat", ["a cat", "cat"], "A"),  # F1 1, human 1
        # one of three found no answer: F1 (2/3 + 1) / 2, human 2/3
        ("cat", ["red cat", "cat", "CANNOTANSWER"], "A"),
        ("dog", ["dog", "bird"], "A"),  # human 0: left out
        ("x y", ["CANNOTANSWER", "x y"], "B"),  # half of two found no answer: F1 0, human 1
        ("dog", ["dog", "bird"], "C"),  # nothing counts: equal
    ]
    scores = quac(*zip(*questions, strict=True))
    assert scores == pytest.approx(((1 + 5 / 6 + 0) / 3, 2 / 3, 2 / 3))


def test_no_answer_is_right_as_a_whole() -> None:
    assert quac(["CANNOTANSWER"], [["CANNOTANSWER"] * 3], ["A"]) == (1, 1, 1)
    assert quac(["CANNOTANSWER"], [["a cat", "cat"]], ["A"]) == (0, 0, 0)
    assert quac(["no"], [["dog", "bird"]], ["A"]) == (0, 0, 1)  # no question counts
