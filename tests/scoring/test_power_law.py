"""Power laws: what was put in is found again, and the intervals hold the truth as often as they say."""

import numpy as np
import pytest

from protoformer.scoring import power_law
from protoformer.scoring.power_law import fit

SIZES = np.geomspace(5e4, 2e7, 5)


def power(sizes: np.ndarray) -> np.ndarray:
    return (8.8e13 / sizes) ** 0.076  # equation 1.1 of arXiv 2001.08361


def irreducible(sizes: np.ndarray) -> np.ndarray:
    return 2.0 + 300 * sizes**-0.4


def noisy(losses: np.ndarray, seed: int) -> np.ndarray:
    return losses * np.exp(np.random.default_rng(seed).normal(scale=0.01, size=losses.shape))


def test_a_power_law_without_noise_is_found() -> None:
    found = fit(SIZES, power(SIZES))
    assert found.exponent().value == pytest.approx(0.076)
    assert found.scale == pytest.approx(8.8e13)
    assert found.irreducible == 0
    assert found.predicted(np.array([1e9]))[0] == pytest.approx((8.8e13 / 1e9) ** 0.076)


def test_an_irreducible_loss_without_noise_is_found() -> None:
    found = fit(SIZES, irreducible(SIZES), "irreducible")
    assert found.irreducible == pytest.approx(2.0, abs=1e-4)
    assert found.exponent().value == pytest.approx(0.4, abs=1e-4)
    assert found.scale == pytest.approx(300, rel=1e-3)


def test_the_power_law_is_the_regression_line_by_hand() -> None:
    sizes, losses = (
        np.exp([0.0, 1.0, 2.0]),
        np.exp([1.0, 0.7, 0.1]),
    )  # slope -0.45, mean 0.6, residuals -0.05, 0.1, -0.05
    found = fit(sizes, losses)
    assert found.exponent().value == pytest.approx(0.45)
    assert np.log(found.predicted(sizes)) == pytest.approx([1.05, 0.6, 0.15])
    assert found.spread == pytest.approx(np.sqrt(0.015))


def test_the_interval_of_the_exponent_is_that_of_students_t() -> None:
    losses = noisy(power(SIZES), 3)
    found = fit(SIZES, losses, resamples=20_000)
    x = np.log(SIZES)
    half = 3.1824 * found.spread / np.sqrt(np.square(x - x.mean()).sum())  # t(0.975) with 3 degrees of freedom
    value, low, high = found.exponent()
    assert (value - low, high - value) == (pytest.approx(half, rel=0.05), pytest.approx(half, rel=0.05))


@pytest.mark.parametrize(("form", "curve", "alpha"), [("power", power, 0.076), ("irreducible", irreducible, 0.4)])
def test_intervals_hold_the_truth_as_often_as_they_say(form, curve, alpha: float) -> None:
    """At a level of 80 % in 150 simulations: between 70 and 90 %, three standard errors."""
    sizes, unseen, of = np.geomspace(5e4, 2e7, 6), 8e7, 150
    true = float(curve(np.array([unseen]))[0])
    held = {"exponent": 0, "band": 0, "prediction": 0}
    for seed in range(of):
        found = fit(sizes, noisy(curve(sizes), seed), form, level=0.8, resamples=200, seed=seed)
        low, high = found.band(np.array([unseen]))
        held["exponent"] += found.exponent().holds(alpha)
        held["band"] += bool(low[0] <= true <= high[0])
        held["prediction"] += found.prediction(unseen).holds(float(noisy(np.array([true]), 1000 + seed)[0]))
    for name, count in held.items():
        assert 0.7 < count / of < 0.9, name


def test_the_prediction_of_a_run_is_wider_than_the_band_of_the_law() -> None:
    found = fit(SIZES, noisy(power(SIZES), 0))
    low, high = found.band(np.array([1e8]))
    run = found.prediction(1e8)
    assert run.low < low[0] < run.value < high[0] < run.high
    assert fit(SIZES, noisy(power(SIZES), 0)).prediction(1e8) == run  # the same seed


def test_the_form_is_the_one_that_predicts_left_out_points() -> None:
    assert power_law.left_out_error(SIZES, irreducible(SIZES), "irreducible") < 1e-4
    assert power_law.left_out_error(SIZES, irreducible(SIZES), "power") > 0.01
    assert power_law.left_out_error(SIZES, power(SIZES), "power") < 1e-9


def test_what_no_law_goes_through_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^2 different sizes; power needs at least 3$"):
        fit(np.array([1.0, 2.0, 2.0]), np.array([3.0, 2.0, 2.1]))
    with pytest.raises(ValueError, match=r"^4 different sizes; irreducible needs at least 5$"):
        fit(SIZES[:4], power(SIZES[:4]), "irreducible")
    with pytest.raises(ValueError, match="a loss is not finite and above 0"):
        fit(SIZES[:3], np.array([1.0, np.nan, 2.0]))
    with pytest.raises(ValueError, match="level must be between 0 and 1"):
        fit(SIZES, power(SIZES), level=1.0)
