"""Runs as people start, stop, repeat and multiply them."""

import json
import signal
from pathlib import Path

import pytest
import torch

from protoformer.models.weights import read_pickle

from .commands import SMALL, TRAIN, Workspace, curve, error_line, finished, predictions, result, wait_for

LONG = (*SMALL, "source.rows=160", "trainer.keep_optimizer=true", "recipe.epochs=5", "trainer.log_every=2")
SHORT = (*SMALL, "recipe.epochs=1", "trainer.limit_train_batches=6", "trainer.log_every=1")


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path)


@pytest.mark.parametrize("hardware", ["cpu", pytest.param("ddp_cpu", marks=pytest.mark.slow)])
def test_a_stopped_run_goes_on_as_if_it_had_never_stopped(workspace: Workspace, hardware: str) -> None:
    overrides = (*LONG, f"hardware={hardware}", "trainer.checkpoint_every=1000")
    whole = workspace.run(*overrides, outputs="whole")
    assert whole.returncode == 0, whole.stderr

    process = workspace.start(*overrides)
    wait_for(lambda: any(len(curve(run)) > 3 for run in workspace.runs() if (run / "metrics.jsonl").exists()), process)
    process.send_signal(signal.SIGTERM)
    stopped = finished(process)
    assert stopped.returncode == 143, stopped.stderr
    assert "the same command continues from there" in error_line(stopped)
    (run,) = workspace.runs()
    assert not (run / "result.json").exists()
    step = read_pickle(run / "checkpoints" / "last.ckpt")["global_step"]
    assert 0 < step < 100

    again = workspace.run(*overrides)
    assert again.returncode == 0, again.stderr
    assert f"continuing from step {step}" in again.stderr
    (expected,) = workspace.runs("whole")
    assert curve(run) == curve(expected)
    assert predictions(run) == predictions(expected)
    for checkpoint in ("last.ckpt", "best.ckpt"):
        ours, theirs = (read_pickle(folder / "checkpoints" / checkpoint)["state_dict"] for folder in (run, expected))
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)

    third = workspace.run_here(*overrides)
    assert third.returncode == 0
    assert "this run is already finished" in third.stderr
    assert result(run)["score"] == result(expected)["score"]
    assert workspace.left_behind() == []


@pytest.mark.slow
@pytest.mark.parametrize("weights", ["balanced", "[0.2,1,3]"])
def test_class_weights_and_macro_f1_are_those_of_one_process_on_two(workspace: Workspace, weights: str) -> None:
    """Ranks whose rows weigh differently, with micro-batches, and a dev split that does not divide into equal parts."""
    words = [word for word in SHORT if not word.startswith(("task=", "source.rows"))]
    words += ["task=glue/mnli", "task.module.metrics=[accuracy,f1_macro]", f"task.module.class_weights={weights}"]
    words += ["model.dropout=0", "hardware.micro_batch=3", "trainer.log_every=1", "source.rows=51"]
    curves, results = [], []
    for hardware in ("cpu", "ddp_cpu"):
        completed = workspace.run_here(*words, f"hardware={hardware}", outputs=hardware)
        assert completed.returncode == 0, completed.stderr
        (run,) = workspace.runs(hardware)
        curves.append([line["train/loss"] for line in curve(run) if "train/loss" in line])
        results.append(result(run)["metrics"])
    assert curves[1] == pytest.approx(curves[0], rel=1e-5)
    assert {"loss", "f1_macro"} <= {name.rsplit("/", 1)[-1] for name in results[0]}
    assert results[1] == pytest.approx(results[0], rel=1e-5)


def test_ranks_and_micro_batches_change_no_number_nor_does_a_sweep(workspace: Workspace) -> None:
    ways = {
        "one": ["hardware=cpu"],
        "micro": ["hardware=cpu", "hardware.micro_batch=3"],
        "ranks": ["hardware=ddp_cpu", "hardware.micro_batch=3", "-m", "seed=1,2"],  # jobs of two ranks each
    }
    actual = {}
    for name, overrides in ways.items():
        completed = workspace.run_here(*SHORT, "seed=1", "model.dropout=0", *overrides, outputs=name)
        assert completed.returncode == 0, completed.stderr
        runs = {result(run)["seed"]: run for run in workspace.runs(name)}
        assert [*runs] == ([1, 2] if name == "ranks" else [1])
        assert {result(run)["hardware"]["ranks"] for run in runs.values()} == {2 if name == "ranks" else 1}
        actual[name] = runs[1]
    assert "jobs of this sweep" in completed.stdout
    losses = {
        name: [(line["train/loss"], line["train/grad_norm"]) for line in curve(run) if "train/loss" in line]
        for name, run in actual.items()
    }
    assert len(losses["one"]) == 6
    for name, run in actual.items():
        assert run.name == actual["one"].name  # hardware renames no run
        torch.testing.assert_close(torch.tensor(losses[name]), torch.tensor(losses["one"]), rtol=1e-5, atol=1e-6)
        assert result(run)["metrics"] == pytest.approx(result(actual["one"])["metrics"], rel=1e-5)
        for file, text in predictions(run).items():
            ids = [json.loads(line)["id"] for line in text.splitlines()]
            assert ids == sorted(set(ids)), file  # every example once
            assert len(ids) == 240


def test_one_owner_at_a_time_and_a_killed_one_owns_nothing(workspace: Workspace) -> None:
    overrides = (*LONG, "recipe.epochs=60", "trainer.limit_val_batches=1", "trainer.checkpoint_every=5")
    first = workspace.start(*overrides)
    wait_for(lambda: any((run / "checkpoints" / "last.ckpt").exists() for run in workspace.runs()), first)
    second = workspace.run(*overrides)
    assert second.returncode == 2
    assert f"is in use by process {first.pid}" in error_line(second)
    first.send_signal(signal.SIGKILL)
    finished(first)
    third = workspace.start(*overrides)
    wait_for(
        lambda: "continuing" in (workspace.runs()[0] / "protoformer.log").read_text() or third.poll() is not None, third
    )
    third.send_signal(signal.SIGTERM)
    assert finished(third).returncode == 143


def test_a_stop_while_it_evaluates_is_no_success(workspace: Workspace) -> None:
    overrides = (*SHORT, "source.rows=1500")
    process = workspace.start(*overrides)
    wait_for(lambda: any((run / "checkpoints" / "last.ckpt").exists() for run in workspace.runs()), process)
    process.send_signal(signal.SIGTERM)
    assert finished(process).returncode == 143
    assert not (workspace.runs()[0] / "result.json").exists()
    again = workspace.run_here(*overrides, "trainer.log_every=2")
    assert again.returncode == 0, again.stderr
    assert result(workspace.runs()[0])["training"]["steps"] == 6


def test_old_results_are_not_passed_off_as_new_ones(workspace: Workspace) -> None:
    first = workspace.run_here(*SHORT)
    assert first.returncode == 0, first.stderr
    (run,) = workspace.runs()
    changed = result(run)
    changed["digests"]["code"] = "of another day"
    (run / "result.json").write_text(json.dumps(changed))
    stale = workspace.run_here(*SHORT)
    assert stale.returncode == 3
    assert "reuse=true" in error_line(stale)
    assert workspace.run_here(*SHORT, "reuse=true").returncode == 0
    assert len(workspace.runs()) == 1
    anew = workspace.run_here(*SHORT, "force=true")
    assert anew.returncode == 0, anew.stderr
    assert [folder.name for folder in workspace.runs()] == [run.name, f"{run.name}-a2"]
    assert result(workspace.runs()[1])["score"] == result(run)["score"]


def test_a_run_begun_by_other_code_is_not_continued_unasked(workspace: Workspace) -> None:
    overrides = (*LONG, "trainer.checkpoint_every=1")
    process = workspace.start(*overrides)
    wait_for(lambda: any((run / "checkpoints" / "last.ckpt").exists() for run in workspace.runs()), process)
    process.send_signal(signal.SIGTERM)
    assert finished(process).returncode == 143
    (workspace.runs()[0] / "code_digest").write_text("of another day")
    stale = workspace.run_here(*overrides)
    assert stale.returncode == 3
    assert "was started by other code" in error_line(stale)


def test_a_run_is_quiet_and_ends_with_its_results(workspace: Workspace) -> None:
    completed = workspace.run(*SHORT, command=TRAIN)
    assert completed.returncode == 0
    assert completed.stderr == ""
    for text in ("val/accuracy", "dev score", "run again", "run folder", "card.md", "predictions"):
        assert text in completed.stdout
    (run,) = workspace.runs()
    assert {file.name for file in run.iterdir()} >= {
        "config.yaml", "result.json", "metrics.jsonl", "card.md", "curves.svg", "checkpoints", "predictions", "tokenizer",
    }  # fmt: skip
    assert not (run / "lock").exists()


def test_a_loss_that_is_no_number_ends_the_run(workspace: Workspace) -> None:
    completed = workspace.run_here(*SHORT, "recipe.lr=1e38", "recipe.clip=null", "trainer.checkpoint_every=1")
    assert completed.returncode == 4, completed.stderr
    assert "recipe.lr, or a longer recipe.warmup, is the usual cure" in error_line(completed)
    (run,) = workspace.runs()
    assert not (run / "result.json").exists()
    last = run / "checkpoints" / "last.ckpt"
    for tensor in read_pickle(last)["state_dict"].values() if last.exists() else ():
        assert torch.isfinite(tensor).all()
