"""The files that the benchmark of `transformers.Trainer` writes are those that a comparison reads."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import f1_score

from protoformer.reporting.comparison.compare import Options, compare

SCRIPT = Path(__file__).parents[3] / "benchmarks" / "trainer_glue.py"
LABELS = ("not_equivalent", "equivalent")


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("trainer_glue", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_best_and_the_last_epoch_are_read_as_they_were_scored(
    script: ModuleType, write_run: Any, tmp_path: Path
) -> None:
    draw = np.random.default_rng(0)
    gold = draw.integers(2, size=50)
    logits = [draw.normal(size=(50, 2)) + gain * np.eye(2)[gold] for gain in (0.5, 3.0, 1.0)]
    script.write(tmp_path / "seed1", "mrpc", logits, gold)
    predicted = [each.argmax(axis=1) for each in logits]
    ours = [
        {"prediction": LABELS[p], "label": LABELS[g], "probabilities": dict.fromkeys(LABELS, 0.5)}
        for p, g in zip(predicted[0], gold, strict=True)
    ]
    metrics = {"val/accuracy": float((predicted[0] == gold).mean()), "val/f1": float(f1_score(gold, predicted[0]))}
    run = write_run("a", predictions={"val": ours}, metrics=metrics)
    for name, epoch in (("best", 1), ("last", 2)):
        file = tmp_path / "seed1" / name / "val.jsonl"
        accuracy, f1 = compare([run], [file], Options(resamples=50))
        assert accuracy.theirs == [pytest.approx((predicted[epoch] == gold).mean())]
        assert f1.theirs == [pytest.approx(f1_score(gold, predicted[epoch]))]
        recorded = json.loads((file.parent / "metrics.json").read_text())
        assert recorded["epoch"] == epoch + 1
        assert recorded["epochs"][epoch] == pytest.approx({"accuracy": accuracy.theirs[0], "f1": f1.theirs[0]})
    script.write(tmp_path / "seed2", "mrpc", [logits[1], logits[0], logits[1]], gold)
    assert json.loads((tmp_path / "seed2" / "best" / "metrics.json").read_text())["epoch"] == 1  # the first of equals
