"""metrics.jsonl: every number, and none twice when a run goes on from an earlier step."""

import json
import math
from pathlib import Path

from protoformer.runs.metrics import read_metrics
from protoformer.training.metrics_log import MetricsLog


def test_lines_hold_step_epoch_and_numbers(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path)
    log.log_metrics({"train/loss": 0.5, "epoch": 1.0}, step=10)
    log.log_metrics({"train/loss": math.nan, "train/grad_norm": math.inf}, step=20)
    raw = [json.loads(line) for line in log.file.read_text().splitlines()]
    assert [(line["step"], line["epoch"]) for line in raw] == [(10, 1), (20, 0)]
    assert raw[1]["train/loss"] == "nan"  # JSON has no word for it
    back = read_metrics(log.file)
    assert math.isnan(back[1]["train/loss"])
    assert back[1]["train/grad_norm"] == math.inf


def test_going_on_from_a_step_drops_what_came_after_it(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path)
    log.truncate(5, None)  # nothing is there yet
    for step in (5, 10, 15):
        log.log_metrics({"train/loss": math.inf if step == 10 else 1.0}, step=step)
    with log.file.open("a") as file:
        file.write('{"step": 20, "train/lo')  # the line that a killed run was writing
    log.truncate(10, None)
    assert [line["step"] for line in read_metrics(log.file)] == [5, 10]
    assert read_metrics(log.file)[1]["train/loss"] == math.inf
    log.log_metrics({"train/loss": 2.0}, step=15)
    assert [line["step"] for line in read_metrics(log.file)] == [5, 10, 15]
    log.log_metrics({"test/loss": 2.0}, step=15)  # of the evaluation after the last checkpoint
    log.truncate(15, lines=3)
    assert [line["step"] for line in read_metrics(log.file)] == [5, 10, 15]
    assert log.lines == 3
    log.truncate(0, 0)  # a run that was killed before its first checkpoint
    assert log.file.read_text() == ""
    assert log.lines == 0
