"""Pools of real trials: killed in the middle, one of them or all, and continued by the same command."""

import os
import signal
from pathlib import Path

import pytest

from .commands import SMALL, TRAIN, Workspace, error_line, finished, result, until_ended, wait_for

SHORT = (*SMALL, "source.rows=32", "recipe.epochs=1", "trainer.log_every=1", "trainer.checkpoint_every=1")
POOL = ("-m", "hardware=cpu", "hardware.pool=all")


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path)


def scores(workspace: Workspace, outputs: str = "outputs") -> dict[str, dict[str, float]]:
    """All metrics of each run, losses among them."""
    return {run.name: result(run)["metrics"] for run in workspace.runs(outputs)}


def test_a_pool_goes_on_past_a_killed_trial_and_its_command_continues_it_when_it_is_killed(
    workspace: Workspace,
) -> None:
    words = (*POOL, *SHORT, "seed=1,2,3")
    pool = workspace.start(*words)
    wait_for(lambda: bool(workspace.training()), pool)
    (victim, *_) = workspace.training()
    os.kill(victim, signal.SIGKILL)
    reason = ": ended by SIGKILL; too little memory is the usual cause; outputs/pool/multirun-"
    wait_for(lambda: reason in pool.printed() and bool(workspace.owners()), pool)
    orphans = workspace.owners()
    pool.send_signal(signal.SIGKILL)
    finished(pool)
    until_ended(orphans)

    whole = workspace.run(*words)
    assert whole.returncode == 0, whole.stdout + whole.stderr
    (logs,) = (workspace.folder / "outputs" / "pool").iterdir()
    assert sorted(file.name for file in logs.iterdir()) == ["1.log", "2.log", "3.log"]
    assert any("continuing from step" in file.read_text() for file in logs.iterdir())
    assert "run folder" not in whole.stdout  # what trials print is in their files
    alone = workspace.run("-m", *SHORT, "hardware=cpu", "seed=1,2,3", outputs="alone")
    assert alone.returncode == 0, alone.stderr
    assert scores(workspace) == scores(workspace, "alone")
    assert workspace.owners() == {}


@pytest.mark.slow
def test_a_grid_of_24_trials_is_killed_and_equals_runs_made_alone(workspace: Workspace) -> None:
    """BERT on two tasks of GLUE, four rates and three seeds, in processes as a user starts them."""
    words = [word for word in SHORT if not word.startswith(("task=", "recipe.lr="))]
    grid = (*words, "task=glue/mrpc,glue/rte", "recipe.lr=1e-4,3e-4,1e-3,3e-3", "seed=1,2,3")
    pool = workspace.start(*POOL, *grid, command=TRAIN)
    wait_for(lambda: len(workspace.runs()) > 3 and bool(workspace.owners()), pool)
    (victim, *_) = workspace.owners()
    os.kill(victim, signal.SIGKILL)
    wait_for(lambda: len(workspace.runs()) > 6 and bool(workspace.owners()), pool)
    pool.send_signal(signal.SIGKILL)
    first, _ = pool.communicate()
    assert "ended by SIGKILL" in first
    assert workspace.left_behind() == []

    pool = workspace.start(*POOL, *grid, command=TRAIN)
    wait_for(lambda: len(workspace.runs()) > 9 and bool(workspace.owners()), pool)
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
