"""Trackers, read back from what they wrote."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from .commands import SMALL, Workspace, curve, result

SHORT = (*SMALL, "recipe.epochs=1", "trainer.log_every=5")


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path)


def records(run: Path) -> list[dict[str, Any]]:
    """All that W&B wrote offline for a run folder's only tracked run."""
    (file,) = run.glob("wandb/offline-run-*/*.wandb")
    completed = subprocess.run(
        [Path(sys.executable).with_name("wandb"), "leet", "inspect", "--json", str(file)],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    return [json.loads(line) for line in completed.stdout.splitlines() if line.startswith("{")]


def of(found: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [record[kind] for record in found if record["type"] == kind]


def test_wandb_gets_the_run_as_it_was(workspace: Workspace) -> None:
    completed = workspace.run(*SHORT, "tracking=auto", "tracking.tags=[tried]")
    assert completed.returncode == 0, completed.stderr
    (run,) = workspace.runs()
    lines = completed.stderr.splitlines()
    assert len(lines) == 1, lines  # quiet but for where it tracks
    assert "no W&B key is set: tracking offline in" in lines[0]

    found = records(run)
    told = of(found, "run")[0]
    assert told["project"] == "protoformer"
    assert told["run_group"] == "bert_l2_h128/glue/mrpc"
    assert set(told["tags"]) == {"bert_l2_h128", "glue/mrpc", "tried"}
    assert told["run_id"] == (run / "tracker_id").read_text().strip()
    assert told["run_id"].startswith(f"{run.name}-a1-")
    config = told["config"]["update"]
    assert config["recipe"]["lr"] == 1e-3  # nested, and as it was really built
    assert config["model"]["vocab_size"] < 1000
    assert "paths" not in config

    history = [item for record in of(found, "history") for item in [record.get("item", record)]]
    logged = json.dumps(history)
    for key in ("train/loss", "train/lr", "val/accuracy", "val/score", "trainer/global_step", "mistakes"):
        assert key in logged, key
    (table,) = run.glob("wandb/offline-run-*/files/media/table/mistakes_*.json")
    mistakes = json.loads(table.read_text())
    assert mistakes["columns"] == ["text", "gold", "predicted", "probability"]
    assert all(row[1] != row[2] and 0.5 <= row[3] <= 1 for row in mistakes["data"])
    score = result(run)["metrics"]["val/score"]
    summary = json.dumps(of(found, "summary"))
    assert "best/val/score" in summary
    assert str(score)[:8] in summary
    assert of(found, "exit")[0].get("exit_code", 0) == 0


def test_a_failed_run_is_closed_as_failed(workspace: Workspace) -> None:
    completed = workspace.run_here(*SHORT, "tracking=wandb_offline", "recipe.lr=1e38", "recipe.clip=null")
    assert completed.returncode == 4
    (run,) = workspace.runs()
    assert of(records(run), "exit")[0]["exit_code"] == 4


@pytest.mark.slow
def test_tensorboard(workspace: Workspace) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    completed = workspace.run_here(*SHORT, "tracking=tensorboard")
    assert completed.returncode == 0, completed.stderr
    (run,) = workspace.runs()
    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    losses = [(event.step, event.value) for event in events.Scalars("train/loss")]
    kept = [(line["step"], line["train/loss"]) for line in curve(run) if "train/loss" in line]
    assert losses == [(step, pytest.approx(loss, rel=1e-6)) for step, loss in kept]
    assert [event.step for event in events.Scalars("val/score")] == [30]


def test_a_key_goes_nowhere(workspace: Workspace) -> None:
    key = "fade" * 10
    overrides = (*SHORT, "trainer.limit_train_batches=2", "tracking=wandb_offline")
    process = workspace.start(*overrides, environ={"WANDB_API_KEY": key, "HF_TOKEN": f"hf_{key}"})
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert key not in out + err
    for file in (file for file in workspace.folder.rglob("*") if file.is_file()):
        assert key.encode() not in file.read_bytes(), file
