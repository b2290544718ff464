"""Translation runs as people start and stop them, and a Transformer that learns the sample's other language."""

import json
import signal
from pathlib import Path

import pytest
import torch

from protoformer import cli
from protoformer.models.weights import read_pickle

from .commands import Workspace, curve, error_line, finished, predictions, result, wait_for

TINY = (
    "model=transformer_tiny",
    "model.d_model=64",
    "model.d_ff=128",
    "model.dropout=0",
    "task=translate/multi30k_en_de",
    "source=sample",
    "tracking=none",
    "hardware.threads=1",
)
SHORT = (
    *TINY,
    "source.rows=200",
    "recipe.batch_size=300",
    "recipe.epochs=2",
    "recipe.warmup=10",
    "trainer.log_every=1",
)

FEW = (
    *(
        "source.rows=60",
        "recipe.epochs=1",
        "trainer.limit_train_batches=6",
        "recipe.batch_size=120",
        "recipe.average=1",
    ),
    *("recipe.lr=0.1", "task.module.max_extra_tokens=2", "task.module.beams=2"),
)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path)


@pytest.mark.slow
def test_a_tiny_transformer_learns_the_samples_other_language(workspace: Workspace) -> None:
    overrides = (
        "experiment=demo_translation",
        "hardware=cpu",
        "hardware.threads=1",
        "trainer.check_val_every_n_epoch=2",
    )
    completed = workspace.run(*overrides, seconds=900)
    assert completed.returncode == 0, completed.stderr
    actual = result(workspace.runs()[0])
    for name in ("val/bleu", "val/compound_bleu", "test/bleu", "test/compound_bleu"):
        assert actual["metrics"][name] > 0.9, actual["metrics"]
    assert actual["metrics"]["val/perplexity"] < 1.5


def test_the_demo_of_translation_in_short(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    """It begins to learn; averages its checkpoints, says how it was scored, and translates a file as it did its test split."""
    overrides = (
        "experiment=demo_translation",
        "hardware=cpu",
        "hardware.threads=1",
        "source.rows=400",
        "recipe.epochs=4",
    )
    splits = ("task.splits.validation='validation[:40]'", "task.splits.test='test[:40]'", "recipe.warmup=20")
    completed = workspace.run(*overrides, *splits, "trainer.log_every=1")
    assert completed.returncode == 0, completed.stderr
    (run,) = workspace.runs()
    actual = result(run)
    losses = [line["train/loss"] for line in curve(run) if "train/loss" in line]
    assert losses[-1] < losses[0] - 1
    assert {"val/bleu", "val/compound_bleu", "test/bleu", "test/compound_bleu"} <= actual["metrics"].keys()
    assert len(actual["averaged"]) == 2
    assert "tok:13a" in actual["notes"]["test"]["bleu"]
    assert "tok:13a" in completed.stdout
    assert not (run / "checkpoints" / "snapshots").exists()

    rows = [json.loads(line) for line in predictions(run)["test.jsonl"].splitlines()]
    assert len(rows) == 40
    source, target = workspace.folder / "source.txt", workspace.folder / "target.txt"
    source.write_text("".join(f"{row['source']}\n" for row in rows), encoding="utf-8")
    assert cli.main(["translate", str(run), "--file", str(source), "--out", str(target)]) == 0, capsys.readouterr().err
    assert target.read_text(encoding="utf-8").splitlines() == [row["prediction"] for row in rows]


@pytest.mark.slow
def test_ranks_and_micro_batches_change_no_number(workspace: Workspace) -> None:
    ways = {
        "one": ["hardware=cpu"],
        "micro": ["hardware=cpu", "hardware.micro_batch=100"],
        "ranks": ["hardware=ddp_cpu", "hardware.micro_batch=60"],
    }
    actual = {}
    for name, overrides in ways.items():
        completed = workspace.run_here(*SHORT, *FEW, *overrides, outputs=name)
        assert completed.returncode == 0, completed.stderr
        (actual[name],) = workspace.runs(name)
    losses = {
        name: [(line["train/loss"], line["train/plain_loss"]) for line in curve(run) if "train/loss" in line]
        for name, run in actual.items()
    }
    assert len(losses["one"]) == 6
    for name, run in actual.items():
        assert run.name == actual["one"].name
        torch.testing.assert_close(torch.tensor(losses[name]), torch.tensor(losses["one"]), rtol=1e-4, atol=1e-4)
        ids = [json.loads(line)["id"] for line in predictions(run)["test.jsonl"].splitlines()]
        assert ids == list(range(60))


@pytest.mark.slow
def test_a_stopped_run_goes_on_as_if_it_had_never_stopped(workspace: Workspace) -> None:
    overrides = (*SHORT, "hardware=cpu", "model.dropout=0.1", "trainer.checkpoint_every=1000", "recipe.average=3")
    overrides = (*overrides, "recipe.average_every=4")
    whole = workspace.run(*overrides, outputs="whole")
    assert whole.returncode == 0, whole.stderr
    process = workspace.start(*overrides)
    wait_for(lambda: any(len(curve(run)) > 4 for run in workspace.runs() if (run / "metrics.jsonl").exists()), process)
    process.send_signal(signal.SIGTERM)
    stopped = finished(process)
    assert stopped.returncode == 143, stopped.stderr
    assert "the same command continues from there" in error_line(stopped)
    again = workspace.run(*overrides)
    assert again.returncode == 0, again.stderr
    (run,), (expected,) = workspace.runs(), workspace.runs("whole")
    assert curve(run) == curve(expected)
    assert predictions(run) == predictions(expected)
    ours, theirs = (read_pickle(folder / "checkpoints" / "averaged.ckpt") for folder in (run, expected))
    assert ours["averaged_steps"] == theirs["averaged_steps"]
    assert all(torch.equal(ours["state_dict"][name], tensor) for name, tensor in theirs["state_dict"].items())


@pytest.mark.slow
def test_parallel_files_of_unequal_length_are_one_line(workspace: Workspace) -> None:
    (workspace.folder / "train.en").write_text("one\ntwo\n", encoding="utf-8")
    (workspace.folder / "train.de").write_text("eins\n", encoding="utf-8")
    overrides = (
        "model=transformer_tiny",
        "task=translate/multi30k_en_de",
        "source=parallel",
        f"source.root={workspace.folder}",
    )
    completed = workspace.run(*overrides, "tracking=none", "hardware=cpu")
    assert completed.returncode == 2
    assert "train.de has 1 lines and" in error_line(completed)
    assert "train.en has 2" in error_line(completed)
