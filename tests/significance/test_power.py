"""The numbers of examples and runs that show a difference are those of the exact power of the t test; Holm's correction."""

import numpy as np
import pytest
from scipy import stats

from protoformer.significance import power
from protoformer.significance.intervals import Variance

HALF_A_POINT = 0.005


def exact_power(runs: int, deviation: float) -> float:
    """Of Student's t test, two-sided at 5 %, of two groups of so many runs, half a point apart."""
    freedom, shift = 2 * runs - 2, HALF_A_POINT / deviation / np.sqrt(2 / runs)
    edge = stats.t.ppf(0.975, freedom)
    return float(stats.nct.sf(edge, freedom, shift) + stats.nct.cdf(-edge, freedom, shift))


def of_seeds(deviation: float, examples: float = 0.0, doubled: float = 0.0) -> Variance:
    return Variance(examples, (deviation**2 / 10, deviation**2 / 10), doubled, (407, 9, 9))


@pytest.mark.parametrize("deviation", [0.0005, 0.001, 0.002, 0.003, 0.005, 0.01, 0.02])
def test_so_many_runs_have_a_power_of_four_fifths(deviation: float) -> None:
    """With normal quantiles they would be one too few."""
    needed = int(power.seeds_needed(of_seeds(deviation), (10, 10), HALF_A_POINT, same_examples=True))
    assert exact_power(needed, deviation) >= power.POWER - 0.01
    assert needed == 2 or exact_power(needed - 1, deviation) < power.POWER


def test_on_the_same_examples_their_spread_does_not_count() -> None:
    spread = of_seeds(0.01, examples=0.01**2)
    alone = power.seeds_needed(of_seeds(0.01), (10, 10), HALF_A_POINT)
    assert power.seeds_needed(spread, (10, 10), HALF_A_POINT) == np.inf
    assert power.seeds_needed(spread, (10, 10), HALF_A_POINT, same_examples=True) == alone == 64
    some = of_seeds(0.01, examples=0.0012**2)
    assert alone < power.seeds_needed(some, (10, 10), HALF_A_POINT) < np.inf


def test_on_other_examples_so_many_runs_have_a_power_of_four_fifths() -> None:
    """Of systems whose gain varies from example to example, with runs that have their own luck on each."""
    generator = np.random.default_rng(0)
    examples, system, run, own = (
        300,
        0.3,
        0.02,
        0.2,
    )  # standard deviations of a gain, a run as a whole, and on an example
    variance = Variance(
        system**2 / examples + 2 * own**2 / examples / 10,
        ((run**2 + own**2 / examples) / 10,) * 2,
        2 * own**2 / examples / 10,
        (examples - 1, 9, 9),
    )
    difference = 0.07
    needed = int(power.seeds_needed(variance, (10, 10), difference))
    assert 2 <= needed < 10
    shown = []
    for _ in range(400):
        gain = difference + generator.normal(size=examples) * system
        sides = [
            generator.normal(size=(needed, 1)) * run + generator.normal(size=(needed, examples)) * own for _ in range(2)
        ]
        sides[0] += gain
        of_examples = (sides[0].mean(axis=0) - sides[1].mean(axis=0)).var(ddof=1) / examples
        of_runs = [side.mean(axis=1).var(ddof=1) / needed for side in sides]
        twice = sum(((side - side.mean(axis=0)) ** 2).sum() / (needed - 1) / examples**2 / needed for side in sides)
        error = np.sqrt(of_examples + sum(of_runs) - twice)
        shown.append((sides[0].mean() - sides[1].mean()) / error > 2.0)
    assert np.mean(shown) >= power.POWER - 0.05


def test_the_number_of_examples_shows_the_difference_four_times_of_five() -> None:
    gains = np.random.default_rng(0).normal(0.02, 0.3, size=100_000)
    needed = power.examples_needed(gains.var() / len(gains), len(gains), 0.02)
    samples = np.random.default_rng(1).choice(gains, size=(1_000, needed))
    shown = stats.ttest_1samp(samples, 0, axis=1).pvalue < 0.05
    assert shown.mean() == pytest.approx(power.POWER, abs=0.04)


def test_few_examples_are_as_many_as_t_takes() -> None:
    """The smallest number with a power of 80 % of a difference of 1.5 standard deviations is 6 (Cohen 1988, one sample)."""
    assert power.examples_needed(1 / 50, 50, 1.5) == 6
    in_passages = power.examples_needed(1 / 50, 50, 1.5, units=5)
    assert in_passages > power.examples_needed(1 / 50, 50, 1.5, units=25) > 6


def test_holm_by_hand() -> None:
    assert power.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert power.holm([0.9, 0.8]) == [1.0, 1.0]
    assert power.holm([]) == []
