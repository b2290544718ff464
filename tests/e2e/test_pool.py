"""Pools of real trials: killed in the middle, one of them or all, and continued by the same command."""

import json
import os
import signal
import time
from pathlib import Path

import pytest

from protoformer import processes

from .commands import SMALL, TRAIN, Workspace, error_line, finished, result, wait_for

SHORT = (*SMALL, "source.rows=32", "recipe.epochs=1", "trainer.log_every=1", "trainer.checkpoint_every=1")
POOL = ("-m", "hardware=cpu", "hardware.pool=all")


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path)


def owners(workspace: Workspace) -> dict[int, str]:
    """Trials that hold the lock of a run, by process id, with their names."""
    found = {}
    for file in (workspace.folder / "outputs").rglob("lock"):
        try:
            owner = json.loads(file.read_text())
        except (OSError, ValueError):
            continue
        if processes.lives(owner["process"]):
            found[owner["pid"]] = owner["process"]
    return found


def training(workspace: Workspace) -> dict[int, str]:
    """Owners of runs that have a checkpoint."""
    return owners(workspace) if any((run / "checkpoints" / "last.ckpt").exists() for run in workspace.runs()) else {}


def scores(workspace: Workspace, outputs: str = "outputs") -> dict[str, dict[str, float]]:
    """All metrics of each run, losses among them."""
    return {run.name: result(run)["metrics"] for run in workspace.runs(outputs)}


def until_ended(names: dict[int, str]) -> None:
    deadline = time.monotonic() + 10
    while any(processes.lives(name) for name in names.values()):
        assert time.monotonic() < deadline, f"still alive: {names}"
        time.sleep(0.01)


def test_a_killed_pool_leaves_no_trial_and_the_same_command_continues_it(workspace: Workspace) -> None:
    words = (*POOL, *SHORT, "seed=1,2")
    pool = workspace.start(*words)
    wait_for(lambda: bool(training(workspace)), pool)
    orphans = training(workspace)
    pool.send_signal(signal.SIGKILL)
    finished(pool)
    until_ended(orphans)

    whole = workspace.run(*words)
    assert whole.returncode == 0, whole.stdout + whole.stderr
    (logs,) = (workspace.folder / "outputs" / "pool").iterdir()
    assert sorted(file.name for file in logs.iterdir()) == ["1.log", "2.log"]
    assert any("continuing from step" in file.read_text() for file in logs.iterdir())
    assert "run folder" not in whole.stdout  # what trials print is in their files
    alone = workspace.run_here("-m", *SHORT, "hardware=cpu", "seed=1,2", outputs="alone")
    assert alone.returncode == 0, alone.stderr
    assert scores(workspace) == scores(workspace, "alone")
    assert owners(workspace) == {}


def test_a_killed_trial_is_a_failed_row_and_the_other_is_not_trained_again(workspace: Workspace) -> None:
    words = (*POOL, *SHORT, "seed=1,2")
    pool = workspace.start(*words)
    wait_for(lambda: bool(training(workspace)), pool)
    (victim, *_) = training(workspace)
    os.kill(victim, signal.SIGKILL)
    completed = finished(pool)
    assert completed.returncode == 1, completed.stdout + completed.stderr
    assert "ended by SIGKILL; too little memory is the usual cause" in completed.stdout
    assert completed.stdout.count(": finished in ") == 1
    again = workspace.run(*words)
    assert again.returncode == 0, again.stderr
    assert "2 trials, 1 of them finished before" in again.stdout


@pytest.mark.slow
def test_a_grid_of_24_trials_is_killed_and_equals_runs_made_alone(workspace: Workspace) -> None:
    """BERT on two tasks of GLUE, four rates and three seeds, in processes as a user starts them."""
    words = [word for word in SHORT if not word.startswith(("task=", "recipe.lr="))]
    grid = (*words, "task=glue/mrpc,glue/rte", "recipe.lr=1e-4,3e-4,1e-3,3e-3", "seed=1,2,3")
    pool = workspace.start(*POOL, *grid, command=TRAIN)
    wait_for(lambda: len(workspace.runs()) > 3 and bool(owners(workspace)), pool)
    (victim, *_) = owners(workspace)
    os.kill(victim, signal.SIGKILL)
    wait_for(lambda: len(workspace.runs()) > 6 and bool(owners(workspace)), pool)
    pool.send_signal(signal.SIGKILL)
    first, _ = pool.communicate()
    assert "ended by SIGKILL" in first
    assert workspace.left_behind() == []

    pool = workspace.start(*POOL, *grid, command=TRAIN)
    wait_for(lambda: len(workspace.runs()) > 9 and bool(owners(workspace)), pool)
    pool.send_signal(signal.SIGHUP)
    stopped = finished(pool)
    assert stopped.returncode == 143, stopped.stderr
    assert "the same command continues" in error_line(stopped)
    assert workspace.left_behind() == []

    again = workspace.run(*POOL, *grid, command=TRAIN, seconds=1200)
    assert again.returncode == 0, again.stdout + again.stderr
    print(again.stdout)
    assert workspace.left_behind() == []
    assert len(workspace.runs()) == 24
    alone = workspace.run_here("-m", *grid, "hardware=cpu", outputs="alone")
    assert alone.returncode == 0, alone.stderr
    assert scores(workspace) == scores(workspace, "alone")
