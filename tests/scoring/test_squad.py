"""SQuAD's numbers: golden cases done by hand, torchmetrics on v1.1, and thresholds against trying every one."""

import random

import pytest
from torchmetrics.functional.text import squad as torchmetrics_squad

from protoformer.scoring import squad

GOLDEN = [  # prediction, gold answers, exact match, F1
    ("Denver Broncos", ["Denver Broncos"], 1, 1),
    ("the denver broncos.", ["Denver Broncos"], 1, 1),
    ("Broncos", ["Denver Broncos"], 0, 2 / 3),
    ("Denver, Colorado", ["Denver Broncos", "Denver, CO, Colorado"], 0, 0.8),
    ("an apple a day", ["apple day"], 1, 1),
    ("Santa Clara, California", ["Levi's Stadium"], 0, 0),
    ("Levis Stadium", ["Levi's Stadium"], 1, 1),
    ("U.S.", ["US", "United States"], 1, 1),
    ("red red wine", ["red wine red"], 0, 1),
    ("red red", ["red wine"], 0, 0.5),
    ("twenty-one", ["twenty one"], 0, 0),  # punctuation goes without leaving a space
    ("  gold\tmedal ", ["gold medal"], 1, 1),
    ("theatre", ["atre"], 0, 0),  # an article is a whole word
    ("", [], 1, 1),  # no answer, and none given
    ("anything", [], 0, 0),
    ("", ["Denver"], 0, 0),
    ("the", [], 1, 1),  # nothing is left of it
    ("the", ["a"], 1, 1),  # nothing is left of either
    ("1,000", ["1000"], 1, 1),
    ("Über", ["über"], 1, 1),
]


@pytest.mark.parametrize(("prediction", "gold", "match", "f1"), GOLDEN)
def test_golden_cases(prediction: str, gold: list[str], match: float, f1: float) -> None:
    assert squad.exact_match(prediction, gold) == match
    assert squad.f1(prediction, gold) == pytest.approx(f1)


def test_torchmetrics_counts_the_same_on_v1() -> None:
    draw = random.Random(0)
    words = ["the", "red", "wine", "Denver", "broncos", "U.S.", "day,", "an", "1,000", "old"]

    def text() -> str:
        return " ".join(draw.choices(words, k=draw.randint(1, 4))) + " gold"

    predictions = {str(n): text() for n in range(200)}
    gold = {str(n): [text() for _ in range(draw.randint(1, 3))] for n in range(200)}
    theirs = torchmetrics_squad(
        [{"prediction_text": text, "id": name} for name, text in predictions.items()],
        [{"answers": {"text": texts, "answer_start": [0] * len(texts)}, "id": name} for name, texts in gold.items()],
    )
    ours = squad.score(predictions, gold)
    assert ours["exact_match"] == pytest.approx(float(theirs["exact_match"]) / 100, abs=1e-6)
    assert ours["f1"] == pytest.approx(float(theirs["f1"]) / 100, abs=1e-6)
    assert set(ours) == {"exact_match", "f1"}


def test_questions_with_and_without_an_answer_are_told_apart() -> None:
    gold = {"a": ["red wine"], "b": ["gold"], "c": [], "d": []}
    actual = squad.score({"a": "red", "b": "gold", "c": "", "d": "old"}, gold)
    assert actual == {
        "exact_match": 0.5,
        "f1": pytest.approx((2 / 3 + 1 + 1) / 4),
        "HasAns/exact_match": 0.5,
        "HasAns/f1": pytest.approx((2 / 3 + 1) / 2),
        "NoAns/exact_match": 0.5,
        "NoAns/f1": 0.5,
    }
    with pytest.raises(ValueError, match="differ in their questions: d"):
        squad.score({"a": "", "b": "", "c": ""}, gold)
    with pytest.raises(ValueError, match="no questions"):
        squad.score({}, {})


def tried(scores: dict[str, float], odds: dict[str, float], gold: dict[str, list[str]], threshold: float) -> float:
    given = {name: scores[name] if gold[name] else 0.0 for name in scores}
    return sum(given[n] if odds[n] <= threshold else float(not gold[n]) for n in scores) / len(scores)


@pytest.mark.parametrize("seed", range(20))
def test_no_threshold_is_better_than_the_best(seed: int) -> None:
    draw = random.Random(seed)
    names = [str(n) for n in range(30)]
    gold = {n: ["x"] if draw.random() < 0.6 else [] for n in names}
    scores = {n: draw.choice([0.0, 0.4, 1.0]) if gold[n] else 0.0 for n in names}
    odds = {n: float(draw.randint(-5, 5)) + (0 if gold[n] else 2) for n in names}  # with ties
    best, threshold = squad.best_threshold(scores, odds, gold)
    assert best == pytest.approx(tried(scores, odds, gold, threshold))
    assert best == pytest.approx(max(tried(scores, odds, gold, t) for t in [-100.0, *odds.values()]))


def test_a_threshold_where_no_answer_is_worth_giving_is_no_silent_zero() -> None:
    gold: dict[str, list[str]] = {"a": [], "b": []}
    best, threshold = squad.best_threshold({"a": 0.0, "b": 0.0}, {"a": -3.0, "b": -1.0}, gold)
    assert (best, threshold) == (1.0, -4.0)
