"""Outputs exchanged between two runs, against all exchanges counted one by one; runs that do not vary."""

from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
from numpy import ndarray
from scipy import stats
from sklearn.metrics import roc_auc_score

from protoformer.significance import intervals, randomization
from protoformer.significance.class_metrics import Auroc, matthews
from protoformer.significance.metrics import Metric, Spearman, mean, value

N = 9
DRAW = np.random.default_rng(3)
REFERENCES = np.arange(N) % 3 + np.arange(N) % 2
POSITIVE = (np.arange(N) % 2 == 0).astype(int)


def spearman(predictions: ndarray) -> float:
    return float(stats.spearmanr(predictions, REFERENCES)[0])


def auroc(predictions: ndarray) -> float:
    return float(roc_auc_score(POSITIVE, predictions))


@pytest.mark.parametrize(
    ("metric", "check"),
    [
        (lambda x: Spearman(x, REFERENCES.astype(float)), spearman),
        (lambda x: Auroc(x, POSITIVE.astype(float)), auroc),
        (lambda x: mean(x), lambda x: float(x.mean())),
    ],
)
def test_exchanges_are_those_of_the_definition(
    metric: Callable[[ndarray], Metric], check: Callable[[ndarray], float]
) -> None:
    ours, theirs = ((REFERENCES + DRAW.normal(size=N) * noise).round(1) for noise in (0.8, 2.5))
    assert [value(metric(side)) for side in (ours, theirs)] == pytest.approx([check(ours), check(theirs)])
    observed = abs(check(ours) - check(theirs))
    extreme = []
    for swapped in product((False, True), repeat=N):
        first, second = np.where(swapped, theirs, ours), np.where(swapped, ours, theirs)
        extreme.append(abs(check(first) - check(second)) >= observed - 1e-12)
    actual = randomization.over_examples([metric(ours)], [metric(theirs)], resamples=4_000)
    assert actual == pytest.approx(np.mean(extreme), abs=0.025)


def test_exchanges_in_parts_are_those_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is that of a part, also where examples are many."""
    gold = DRAW.integers(2, size=50)
    sides = [[matthews(np.where(DRAW.random(50) < rate, gold, 1 - gold), gold)] for rate in (0.8, 0.7)]
    expected = randomization.over_examples(*sides, resamples=300)
    monkeypatch.setattr(randomization, "CHUNK", 700)
    assert randomization.over_examples(*sides, resamples=300) == expected


@pytest.mark.parametrize(("ours", "theirs"), [(3, 4), (7, 10), (6, 6)])
def test_equal_runs_do_not_differ_by_their_rounding(ours: int, theirs: int) -> None:
    """The mean of ten equal numbers is seldom that of seven; the spread of both is as small."""
    generator = np.random.default_rng(0)
    for _ in range(20):
        run = mean(generator.random(97) < 0.83)
        sides = [run] * ours, [run] * theirs
        of_examples = intervals.over_examples(*sides, resamples=50)
        for each in (of_examples, intervals.over_seeds(*sides), intervals.over_both(*sides)):
            assert each == (0.0, 0.0, 0.0, 1.0, 0.0)


def test_the_order_of_runs_does_not_matter() -> None:
    runs = [mean(DRAW.random(97) < 0.8) for _ in range(3)]
    actual = intervals.over_examples(runs, runs[::-1], resamples=200)
    assert actual == (0.0, 0.0, 0.0, 1.0, 0.0)


@pytest.mark.parametrize(("runs", "p"), [((2, 2), 2 / 6), ((4, 4), 2 / 70), ((2, 3), 1 / 10)])
def test_runs_without_spread_have_the_p_of_dealing_them(runs: tuple[int, int], p: float) -> None:
    """Welch's t divides by 0: two runs of one score each, by chance, would be certain."""
    sides = [[mean([score])] * count for score, count in zip((0.6, 0.58), runs, strict=True)]
    actual = intervals.over_seeds(*sides)
    assert actual.p == pytest.approx(p) == pytest.approx(randomization.over_seeds(*sides))
    assert np.isnan(actual.low)
    assert np.isnan(actual.high)
    assert not actual.is_significant


def test_two_examples_show_nothing_however_equal_the_runs_are() -> None:
    sides = [[mean([score, score])] * 5 for score in (1.0, 0.0)]
    assert intervals.over_both(*sides).p == 0.5
    many = [[mean([score] * 90)] * 5 for score in (1.0, 0.0)]
    assert intervals.over_both(*many).p == pytest.approx(2 / 252)  # of dealing five runs to each side


def test_the_hierarchical_bootstrap_counts_the_luck_of_runs_on_examples_twice() -> None:
    """Of many runs that differ by nothing else it is too wide."""
    sides = [[mean(DRAW.random(200) < 0.8) for _ in range(20)] for _ in range(2)]
    drawn = intervals.hierarchical_bootstrap(*sides, resamples=1_000)
    exact = intervals.over_both(*sides)
    assert drawn.standard_error > 1.2 * exact.standard_error
