"""Intervals hold the truth as often as they say, and p-values below 5 % come 5 % of the time where nothing differs."""

from collections.abc import Iterator

import numpy as np
import pytest
from numpy import ndarray
from numpy.random import Generator
from scipy import stats

from protoformer.significance import intervals, randomization
from protoformer.significance.class_metrics import matthews
from protoformer.significance.metrics import Metric, SumMetric, mean, value

EXAMPLES, TRIALS = 200, 1_200
TOLERANCE = 0.015  # two and a half standard errors of a fraction of 5 % in so many trials


def draw(
    generator: Generator, runs: int, seeds: float, examples: int = EXAMPLES, gain: float = 0.0
) -> tuple[list[ndarray], list[ndarray]]:
    """Whether each run of two systems, equally good where `gain` is 0, is right on each example: some are hard for both, some
    for one system, and each run has its own luck as a whole (`seeds`) and on each example."""
    difficulty = generator.normal(size=examples) * 0.7
    sides = []
    for ours in (True, False):
        system = 0.8 + gain * ours + difficulty + generator.normal(size=examples) * 0.5
        noise = generator.normal(size=(runs, examples)) * 0.5 + generator.normal(size=(runs, 1)) * seeds
        sides.append(list(system + noise > 0))
    return sides[0], sides[1]


def simulations(runs: int, seeds: float, trials: int = TRIALS) -> Iterator[tuple[list[SumMetric], list[SumMetric]]]:
    generator = np.random.default_rng(0)
    for _ in range(trials):
        ours, theirs = draw(generator, runs, seeds)
        yield [mean(run) for run in ours], [mean(run) for run in theirs]


@pytest.mark.parametrize(("runs", "seeds"), [(3, 0.1), (6, 0.05), (4, 0.4)])
def test_over_examples_and_seeds_it_is_wrong_one_time_in_twenty(runs: int, seeds: float) -> None:
    results = [intervals.over_both(*sides) for sides in simulations(runs, seeds)]
    assert np.mean([each.is_significant for each in results]) == pytest.approx(0.05, abs=TOLERANCE)
    assert np.mean([each.p < 0.05 for each in results]) == np.mean([each.is_significant for each in results])


def test_over_examples_it_is_wrong_one_time_in_twenty() -> None:
    """Single systems, other examples. The truth is that both are equally good on all examples that could be drawn."""
    results = [intervals.over_examples(*sides, resamples=400) for sides in simulations(1, 0.0)]
    assert np.mean([each.is_significant for each in results]) == pytest.approx(0.05, abs=TOLERANCE)


@pytest.mark.parametrize(("runs", "seeds"), [(1, 0.0), (5, 0.2)])
def test_intervals_hold_a_difference_that_is_there(runs: int, seeds: float) -> None:
    """The truth is known: right answers are those of a normal variable above zero."""
    gain, spread = 0.4, np.sqrt(0.7**2 + 0.5**2 + 0.5**2 + seeds**2)
    truth = stats.norm.cdf((0.8 + gain) / spread) - stats.norm.cdf(0.8 / spread)
    generator = np.random.default_rng(5)
    held = []
    for _ in range(TRIALS):
        sides = [[mean(run) for run in side] for side in draw(generator, runs, seeds, gain=gain)]
        result = intervals.over_both(*sides) if runs > 1 else intervals.over_examples(*sides, resamples=300)
        held.append(result.low <= truth <= result.high)
    assert np.mean(held) == pytest.approx(0.95, abs=TOLERANCE)


def test_few_examples_widen_the_interval_as_t_does() -> None:
    """Percentiles alone are too narrow: of ten normal scores they hold the truth 91 % of the time."""
    generator = np.random.default_rng(2)
    held = []
    for _ in range(TRIALS):
        result = intervals.over_examples([mean(generator.normal(size=10))], [mean(np.zeros(10))], resamples=1_000)
        held.append(result.low <= 0 <= result.high)
        assert (result.p < 0.05) == result.is_significant or 0.04 < result.p < 0.06
    assert np.mean(held) == pytest.approx(0.95, abs=TOLERANCE)


def test_over_seeds_it_is_wrong_one_time_in_twenty() -> None:
    """The examples are the same ones in every trial, and the runs' true means on them are equal."""
    generator = np.random.default_rng(1)
    wrong = []
    for _ in range(TRIALS):
        sides = generator.normal(0.8, 0.02, size=(2, 4))
        ours, theirs = ([mean([score]) for score in side] for side in sides)
        wrong.append(intervals.over_seeds(ours, theirs).is_significant)
    assert np.mean(wrong) == pytest.approx(0.05, abs=TOLERANCE)


def test_approximate_randomisation_is_wrong_one_time_in_twenty() -> None:
    """Of graded scores; of right and wrong answers less often, since many exchanges give the very same difference."""
    generator = np.random.default_rng(0)
    p = []
    for _ in range(TRIALS):
        difficulty = generator.normal(size=EXAMPLES)
        sides = [[mean(difficulty + generator.normal(size=EXAMPLES))] for _ in range(2)]
        p.append(randomization.over_examples(*sides, resamples=300))
    assert np.mean(np.asarray(p) <= 0.05) == pytest.approx(0.05, abs=TOLERANCE)
    of_answers = [randomization.over_examples(*sides, resamples=300) for sides in simulations(1, 0.0, trials=400)]
    assert np.mean(np.asarray(of_answers) <= 0.05) < 0.05 + TOLERANCE


def test_clusters_that_are_drawn_whole_keep_the_error_at_its_level() -> None:
    """Ten questions a passage, which are right and wrong together: without clusters the interval is much too narrow."""
    generator = np.random.default_rng(0)
    clusters = np.repeat(np.arange(60), 10)
    wrong = {"clusters": [], "examples": []}
    for _ in range(250):
        of_passage = generator.normal(size=(2, 60)).repeat(10, axis=1)
        ours, theirs = ([mean(side + generator.normal(size=600) * 0.3 > 0)] for side in of_passage)
        for name, each in (("clusters", clusters), ("examples", None)):
            wrong[name].append(intervals.over_examples(ours, theirs, each, resamples=300).is_significant)
    assert np.mean(wrong["clusters"]) == pytest.approx(0.05, abs=0.04)
    assert np.mean(wrong["examples"]) > 0.3


def test_the_hierarchical_bootstrap_is_too_narrow_with_three_runs_and_agrees_with_many() -> None:
    generator = np.random.default_rng(3)
    for runs, ratio in ((3, 0.75), (40, 0.97)):
        widths = []
        for _ in range(5):
            ours, theirs = ([mean(run) for run in side] for side in draw(generator, runs, 0.4))
            drawn = intervals.hierarchical_bootstrap(ours, theirs, resamples=2_000)
            exact = intervals.over_both(ours, theirs)
            widths.append((drawn.high - drawn.low) / (exact.high - exact.low))
        assert np.mean(widths) < 1.05
        assert (np.mean(widths) > ratio) == (runs > 3)


def test_a_difference_that_is_there_is_found() -> None:
    right = np.arange(EXAMPLES) % 10 > 0
    worse = right & (np.arange(EXAMPLES) % 7 > 0)
    result = intervals.over_examples([mean(right)], [mean(worse)])
    assert result.difference == pytest.approx(right.mean() - worse.mean())
    assert result.low > 0
    assert result.p < 0.001
    assert randomization.over_examples([mean(right)], [mean(worse)]) < 0.001
    back = intervals.over_examples([mean(worse)], [mean(right)])
    assert (back.low, back.high) == pytest.approx((-result.high, -result.low), abs=1e-3)


def test_the_bootstrap_of_a_metric_that_is_no_mean() -> None:
    """Of Matthews' correlation: the standard error is that of the influences."""
    generator = np.random.default_rng(0)
    gold = generator.integers(2, size=2_000)
    sides = [[matthews(np.where(generator.random(2_000) < rate, gold, 1 - gold), gold)] for rate in (0.8, 0.7)]
    result = intervals.over_examples(*sides, resamples=2_000)
    gains = sides[0][0].influences() - sides[1][0].influences()
    assert result.standard_error == pytest.approx(gains.std() / np.sqrt(2_000), rel=0.05)


def test_dealing_few_runs_anew_is_exact() -> None:
    runs: list[Metric] = [mean([score]) for score in (0.9, 0.91, 0.92, 0.5, 0.51, 0.52)]
    assert randomization.over_seeds(runs[:3], runs[3:]) == pytest.approx(2 / 20)
    assert randomization.over_seeds(runs[::2], runs[1::2]) > 0.5
    scores = [value(run) for run in runs]
    welch = stats.ttest_ind(scores[:3], scores[3:], equal_var=False)
    assert intervals.over_seeds(runs[:3], runs[3:]).p == pytest.approx(welch.pvalue)


@pytest.mark.parametrize(("ours", "theirs"), [(1, 1), (1, 2), (2, 1), (2, 2)])
def test_seeds_take_two_runs_a_side(ours: int, theirs: int) -> None:
    sides = [[mean([1.0, 0.0, 1.0])] * count for count in (ours, theirs)]
    if min(ours, theirs) == 1:
        for function in (intervals.over_seeds, intervals.over_both):
            with pytest.raises(ValueError, match="two runs"):
                function(*sides)
    else:
        assert intervals.over_both(*sides).difference == 0
