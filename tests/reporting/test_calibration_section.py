"""Calibration in the card: the table, the diagram, and no more than the examples show."""

import json
from pathlib import Path

import numpy as np
import pytest

from protoformer.reporting.card import write_card
from protoformer.scoring.calibration import LabelScores, softmax

pytestmark = pytest.mark.usefixtures("whole_runs")  # with pictures


def entry(examples: int, temperature: float, fitted_on: str = "val") -> dict:
    """A split whose references follow softmax(logits / temperature)."""
    generator = np.random.default_rng(0)
    logits = generator.normal(size=(examples, 2)) * 2
    references = (generator.random(examples) > softmax(logits / temperature)[:, 0]).astype(int)
    scores = LabelScores(logits, references)
    fitted = scores.temperature()
    return {
        "as_is": scores.calibration().as_json(),
        "temperature": {**fitted._asdict(), "fitted_on": fitted_on},
        "scaled": scores.calibration(fitted.value).as_json(),
    }


def card(folder: Path, calibration: dict) -> str:
    file = folder / "result.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "calibration": calibration}))
    return write_card(folder).read_text()


def test_a_card_says_how_calibrated_a_split_is_and_on_what_the_temperature_was_fitted(write_run) -> None:
    folder = write_run("a")
    splits = {"val": entry(1_000, 2.5), "test": entry(100, 1.0)}
    text = card(folder, splits)
    as_is = splits["val"]["as_is"]
    assert f"| val | 1,000 | {100 * as_is['accuracy']:.2f} | {100 * as_is['confidence']:.2f} |" in text
    temperature = splits["val"]["temperature"]
    assert temperature["low"] < 2.5 < temperature["high"]
    assert f"Temperature T = {temperature['value']:.2f} (95 % interval" in text
    assert "of the greatest likelihood on val" in text
    assert "without it probabilities are too close to certainty" in text
    assert "val: the ECE is beyond chance; on average the model is more confident than right." in text
    assert "test: the ECE is within what chance gives a calibrated model. The examples are few" in text
    assert "(reliability.svg)" in text
    svg = (folder / "reliability.svg").read_bytes()
    assert b"<svg" in svg
    card(folder, splits)
    assert (folder / "reliability.svg").read_bytes() == svg


def test_a_run_without_probabilities_has_no_section(write_run) -> None:
    folder = write_run("a")
    assert "## Calibration" not in write_card(folder).read_text()
    assert not (folder / "reliability.svg").exists()


def test_without_a_validation_split_there_is_no_temperature(write_run) -> None:
    text = card(write_run("a"), {"test": {"as_is": entry(300, 1.0)["as_is"]}})
    assert "| test | 300 |" in text
    assert "Temperature T" not in text


@pytest.mark.parametrize(("temperature", "words"), [(0.4, "too far from certainty"), (1.0, "which holds 1, no change")])
def test_an_interval_says_whether_a_temperature_is_needed(temperature: float, words: str, write_run) -> None:
    assert words in card(write_run("a"), {"val": entry(400, temperature)})
