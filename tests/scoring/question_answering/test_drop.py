"""DROP's numbers: golden cases done by hand, and the alignment of phrases against scipy's assignment."""

import random

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from protoformer.scoring.question_answering import drop

GOLDEN = [  # predicted phrases, annotators' phrases, exact match, F1
    (["3"], [["3"]], 1, 1),
    (["3.0"], [["3"]], 1, 1),  # numbers are compared as numbers
    (["the Red Cats."], [["red cats"]], 1, 1),
    (["twenty-one"], [["twenty one"]], 1, 1),  # a hyphen ends a word
    (["4 yards"], [["4"]], 0, 0.67),  # P 1/2, R 1, rounded
    (["5 yards"], [["4 yards"]], 0, 0),  # another number, whatever else is shared
    (["yards"], [["4 yards"]], 0, 0),
    (["4 yards"], [["yards"]], 0, 0.67),  # a number matters in the gold answer alone
    (["Jones", "Smith"], [["Smith", "Jones"]], 1, 1),
    (["Smith", "Smith"], [["Smith"]], 0, 0.5),  # a phrase too many
    (["Ben Smith"], [["Ben Smith", "Ada Jones"]], 0, 0.5),
    (["the red cat", "dog"], [["red cat dog", "cat"]], 0, 0.58),  # 1/2 + 2/3 is more than 0.8 + 0; the mean over two
    (["cat cat"], [["cat"]], 0, 1),  # bags are sets
    (["1920"], [["May 1920"], ["1920"]], 1, 1),  # the best annotator counts
    (["1920"], [[""], ["7"]], 0, 0),
    ([""], [["cat"]], 0, 0),
]


@pytest.mark.parametrize(("prediction", "references", "exact_match", "f1"), GOLDEN)
def test_golden_cases(prediction: list[str], references: list[list[str]], exact_match: float, f1: float) -> None:
    assert drop.exact_match(prediction, references) == exact_match
    assert drop.f1(prediction, references) == f1


def test_phrases_are_aligned_as_by_the_assignment_of_the_greatest_sum() -> None:
    draw = random.Random(0)
    for _ in range(200):
        predicted, gold = ([" ".join(draw.choices("bcdef", k=2)) for _ in range(draw.randint(1, 5))] for _ in range(2))
        scores = np.array([[drop._bag_f1(drop._bag(one), drop._bag(other)) for one in predicted] for other in gold])
        expected = scores[linear_sum_assignment(-scores)].sum() / max(len(predicted), len(gold))
        assert drop.f1(predicted, [gold]) == pytest.approx(expected, abs=0.0051)
