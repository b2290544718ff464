"""A sweep of real trials: killed in the middle and continued by the same command; a search whose trials have two ranks each."""

import csv
import json
import os
import signal
import sys
from pathlib import Path

import pytest
import yaml

from protoformer import cli
from protoformer.reporting.sweep.rows import read_results

from .commands import ROOT, SMALL, Workspace, finished, result, until_ended, wait_for

CLI = str(ROOT / "src" / "protoformer" / "cli.py")
SWEEP = (sys.executable, "-m", "protoformer.cli", "sweep", "s.yaml")
SHORT = (
    *SMALL,
    "source.rows=64",
    "recipe.epochs=1",
    "trainer.log_every=1",
    "trainer.checkpoint_every=1",
    "model.dropout=0",
)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path)


def write_sweep(workspace: Workspace, **keys: object) -> None:
    (workspace.folder / "s.yaml").write_text(yaml.safe_dump(keys))


def test_a_sweep_that_is_killed_is_continued_by_the_same_command(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    write_sweep(workspace, space={"seed": {"values": [1, 2, 3]}}, workers=2)
    process = workspace.start("sweep", "s.yaml", *SHORT, "paths.outputs=outputs", script=CLI)
    wait_for(lambda: bool(workspace.training()), process)
    orphans = workspace.owners()
    process.send_signal(signal.SIGKILL)
    finished(process)
    until_ended(orphans)
    (folder,) = (workspace.folder / "outputs" / "sweeps").iterdir()
    states = [row.state for row in read_results(folder).rows]
    assert "stopped" in states
    assert "queued" in states
    again = workspace.run("sweep", "s.yaml", *SHORT, "paths.outputs=outputs", script=CLI)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "(continued)" in again.stdout
    assert sorted(result(run)["seed"] for run in workspace.runs()) == [1, 2, 3]
    assert any("continu" in file.read_text() for file in folder.glob("trials/*/output.log"))
    rows = read_results(folder).rows
    assert [(row.number, row.state) for row in rows] == [(0, "finished"), (1, "finished"), (2, "finished")]
    assert [row.score for row in rows] == [result(workspace.folder / row.run)["score"] for row in rows]
    assert all(row.device.startswith("core") for row in rows)
    assert workspace.owners() == {}
    assert cli.main(["report", "sweep", str(folder)]) == 0
    assert "spread of val/score over seed" in capsys.readouterr().out
    with (folder / "trials.csv").open(newline="") as lines:
        assert [line["seed"] for line in csv.DictReader(lines)] == ["1", "2", "3"]
    assert (folder / "trials.svg").stat().st_size > 1000


@pytest.mark.slow
@pytest.mark.parametrize("ended", ["interrupted", "killed", "rank killed"])
def test_a_search_on_two_ranks_that_is_stopped_is_continued(workspace: Workspace, ended: str) -> None:
    write_sweep(workspace, method="tpe", trials=3, space={"recipe.lr": {"log_uniform": [1e-4, 1e-2]}}, pruner="median")
    fixed = (word for word in SHORT if not word.startswith("recipe.lr="))
    words = (*fixed, "source.rows=240", "recipe.epochs=2", "hardware=ddp_cpu", "paths.outputs=outputs")
    process = workspace.start(*words, command=SWEEP)
    wait_for(lambda: any((run / "metrics.jsonl").exists() for run in workspace.runs()), process)
    if ended == "rank killed":
        os.kill(workspace.ranks()[-1], signal.SIGKILL)
    else:
        process.send_signal(signal.SIGINT if ended == "interrupted" else signal.SIGKILL)
    completed = finished(process)
    if ended == "interrupted":
        assert completed.returncode == 130, completed.stderr
        assert "the same command continues" in completed.stderr
    if ended == "rank killed":  # a failed row; the others go on
        assert completed.returncode != 0, completed.stdout
        (folder,) = (workspace.folder / "outputs" / "sweeps").iterdir()
        assert sorted(row.state for row in read_results(folder).rows) == ["failed", "finished", "finished"]
        assert "was ended by SIGKILL" in next(row.error for row in read_results(folder).rows if row.error)
    assert workspace.left_behind() == []
    again = workspace.run(*words, command=SWEEP)
    assert again.returncode == 0, again.stdout + again.stderr
    assert [result(run)["hardware"]["ranks"] for run in workspace.runs()] == [2, 2, 2]
    (folder,) = (workspace.folder / "outputs" / "sweeps").iterdir()
    journal = [json.loads(line) for line in (folder / "journal.log").read_text().splitlines()]
    assert [row.state for row in read_results(folder).rows] == ["finished"] * 3
    assert sum("intermediate_value" in line for line in journal) >= 6  # two validations of each trial
    assert workspace.left_behind() == []
