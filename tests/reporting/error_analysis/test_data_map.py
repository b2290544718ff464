"""The data map of a run's training examples: its numbers, the candidates for label errors, the card's section and figure."""

import json
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest

from protoformer.reporting.card import write_card
from protoformer.reporting.error_analysis.data_map import FILE, DataMap


def test_its_numbers_are_the_papers() -> None:
    probabilities = np.array([[0.9, 0.1, 0.2], [0.9, 0.3, 0.8]])
    mapped = DataMap.of(probabilities, probabilities > 0.5)
    np.testing.assert_allclose(mapped.confidence, [0.9, 0.2, 0.5])
    np.testing.assert_allclose(mapped.variability, [0.0, 0.1, 0.3], atol=1e-12)
    np.testing.assert_allclose(mapped.correctness, [1.0, 0.0, 0.5])


def test_label_errors_have_low_confidence_and_low_variability() -> None:
    confidence, variability = np.array([0.95, 0.05, 0.30, 0.10, 0.02]), np.array([0.01, 0.02, 0.01, 0.30, 0.01])
    mapped = DataMap(confidence, variability, np.array([1.0, 0.0, 0.0, 0.5, 0.0]))
    assert mapped.label_errors() == [4, 1, 2, 3]  # the first example was right after each epoch
    assert mapped.label_errors(2) == [4, 1]


@pytest.fixture
def folder(write_run) -> Path:
    """Sixty examples of three epochs; number 7 has a wrong label."""
    made: Path = write_run("x")
    rows = []
    for i in range(60):
        right = i != 7
        probabilities = [0.6 + 0.005 * i, 0.7, 0.65 + 0.005 * i] if right else [0.04, 0.02, 0.01]
        predictions = ["no"] * 3 if right else ["yes | <b>"] * 3
        row = {"id": i, "label": "no", "prediction": predictions[-1]}
        texts = {} if right else {"texts": {"a": "one *bold* claim", "b": "long " * 100}}
        rows.append(row | {"probabilities": probabilities, "predictions": predictions} | texts)
    (made / FILE).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return made


def test_the_card_has_its_figure_its_regions_and_the_label_errors(folder: Path) -> None:
    text = write_card(folder).read_text()
    assert "## Data map" in text
    assert "60 training examples by the probability of their label after each of 3 epochs" in text
    assert "| never predicted right | 1 | 2.33 | 1.25 | 0.00 |" in text
    assert "| easy: the third of most confidence | 20 |" in text
    assert r"| 7 | no | yes \| \<b\> | 2.33 | 1.25 | 0.00 | one \*bold\* claim \| long long" in text
    assert "long..." not in text.replace("long ...", "")
    assert "long ..." in text  # cut
    (line,) = [line for line in text.splitlines() if line.startswith("| 7 | no")]
    assert len(line) < 450
    svg = (folder / "data_map.svg").read_text()
    ET.fromstring(svg)
    for word in ("variability", "confidence", "correctness", "ambiguous", "60 training examples"):
        assert f"<!-- {word} -->" in svg
    write_card(folder)
    assert (folder / "data_map.svg").read_text() == svg


def test_label_errors_of_files_are_named_by_file_and_line(folder: Path) -> None:
    rows = [json.loads(line) for line in (folder / FILE).read_text().splitlines()]
    rows[7]["location"] = "reviews.csv, line 19"
    (folder / FILE).write_text("".join(json.dumps(row) + "\n" for row in rows))
    text = write_card(folder).read_text()
    assert r"| 7 | reviews.csv, line 19 | no | yes \| \<b\> | 2.33 |" in text
    assert "| row | location | label |" in text


def test_one_epoch_says_that_it_is_too_few(folder: Path) -> None:
    rows = [json.loads(line) for line in (folder / FILE).read_text().splitlines()]
    for row in rows:
        row["probabilities"], row["predictions"] = row["probabilities"][:1], row["predictions"][:1]
    (folder / FILE).write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert "a data map needs several" in write_card(folder).read_text()
    (folder / FILE).write_text("")
    assert "Data map" not in write_card(folder).read_text()
    (folder / FILE).unlink()
    assert "Data map" not in write_card(folder).read_text()
