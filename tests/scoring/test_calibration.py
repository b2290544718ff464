"""Calibration errors, Brier scores and temperatures are those of torchmetrics, scikit-learn and SciPy; chance is told apart."""

import numpy as np
import pytest
import torch
from numpy import ndarray
from scipy import optimize, special
from sklearn.metrics import brier_score_loss, log_loss
from torchmetrics.functional.classification import binary_calibration_error, multiclass_calibration_error

from protoformer.scoring.calibration import BINS, LIMITS, AnswerScores, LabelScores, softmax


def drawn(examples: int, labels: int, temperature: float, seed: int = 0) -> tuple[ndarray, ndarray]:
    """Logits, and references that follow softmax(logits / temperature)."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(size=(examples, labels)) * 2
    probs = softmax(logits / temperature)
    return logits, (generator.random((examples, 1)) > probs.cumsum(axis=1)).sum(axis=1)


@pytest.mark.parametrize("labels", [2, 5])
def test_errors_are_those_of_other_implementations(labels: int) -> None:
    logits, references = drawn(300, labels, 1.6)
    actual = LabelScores(logits, references).calibration()
    probs = softmax(logits)
    expected = multiclass_calibration_error(
        torch.tensor(probs), torch.tensor(references), labels, n_bins=BINS, norm="l1"
    )
    assert actual.ece == pytest.approx(float(expected), abs=1e-6)
    assert actual.log_loss == pytest.approx(log_loss(references, probs))
    by_label = [brier_score_loss(references == label, probs[:, label]) for label in range(labels)]
    assert actual.brier == pytest.approx(sum(by_label))
    assert actual.accuracy == (logits.argmax(axis=1) == references).mean()
    assert sum(each.examples for each in actual.bins) == actual.examples == 300


def test_answers_are_right_or_wrong() -> None:
    generator = np.random.default_rng(1)
    scores, right = generator.normal(size=(200, 6)) * 2, generator.random(200) < 0.5
    scores[::3, 4:] = -np.inf  # fewer candidates
    chosen = scores.argmax(axis=1)
    actual = AnswerScores(scores, chosen, right).calibration()
    confidences = softmax(scores).max(axis=1)
    expected = binary_calibration_error(torch.tensor(confidences), torch.tensor(right).long(), n_bins=BINS, norm="l1")
    assert actual.ece == pytest.approx(float(expected), abs=1e-6)
    assert actual.brier == pytest.approx(brier_score_loss(right, confidences))


def test_the_temperature_is_the_one_that_the_labels_follow() -> None:
    logits, references = drawn(2_000, 3, 1.7)
    scores = LabelScores(logits, references)
    fitted = scores.temperature()
    by_scipy = optimize.minimize_scalar(
        lambda t: -special.log_softmax(logits / t, axis=1)[np.arange(2_000), references].sum(),
        bounds=LIMITS, method="bounded", options={"xatol": 1e-8},
    )  # fmt: skip
    assert fitted.value == pytest.approx(by_scipy.x, rel=1e-4)
    assert fitted.low < 1.7 < fitted.high
    before, after = scores.calibration(), scores.calibration(fitted.value)
    assert after.log_loss < before.log_loss
    assert after.ece < before.ece
    assert after.accuracy == before.accuracy  # no prediction changes
    wide = LabelScores(logits[:40], references[:40]).temperature()
    assert wide.high - wide.low > 3 * (fitted.high - fitted.low)


def test_the_interval_of_a_temperature_holds_it() -> None:
    held = []
    for seed in range(150):
        fitted = LabelScores(*drawn(150, 3, 1.3, seed)).temperature()
        held.append(fitted.low <= 1.3 <= fitted.high)
    assert np.mean(held) == pytest.approx(0.95, abs=0.04)


def test_where_all_is_right_no_temperature_is_best() -> None:
    logits, _ = drawn(30, 3, 1.0)
    fitted = LabelScores(logits, logits.argmax(axis=1)).temperature()
    assert (fitted.value, fitted.low) == (LIMITS[0], LIMITS[0])


def test_chance_is_the_error_of_a_calibrated_model() -> None:
    found = [LabelScores(*drawn(100, 3, 1.0, seed)).calibration() for seed in range(120)]
    assert np.mean([each.ece for each in found]) == pytest.approx(np.mean([each.chance[0] for each in found]), rel=0.05)
    assert np.mean([each.ece > each.chance[1] for each in found]) == pytest.approx(0.05, abs=0.045)
    (few,) = [LabelScores(*drawn(30, 3, 1.0)).calibration()]
    (many,) = [LabelScores(*drawn(3_000, 3, 1.0)).calibration()]
    assert few.chance[0] > 3 * many.chance[0]


def test_a_bin_has_the_interval_of_wilson() -> None:
    logits = np.tile([[np.log(0.8), np.log(0.2)]], (10, 1))
    references = np.array([0] * 7 + [1] * 3)
    (only,) = LabelScores(logits, references).calibration().bins
    assert (only.examples, only.accuracy, only.confidence) == (10, 0.7, pytest.approx(0.8))
    assert (only.accuracy_low, only.accuracy_high) == pytest.approx((0.3968, 0.8922), abs=1e-4)
