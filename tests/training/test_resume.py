"""A run that was stopped and continued equals one that never stopped: losses, scores, weights, predictions, to the bit."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch

from protoformer.config.compose import compose
from protoformer.errors import DivergedError, InterruptedRunError
from protoformer.models.weights import read_pickle
from protoformer.modules.task_module import TaskModule
from protoformer.runs.metrics import read_metrics
from protoformer.training.callbacks import checkpointing
from protoformer.training.callbacks.step_logger import StepLogger
from protoformer.training.run import train

from .kept_checkpoints import kept_checkpoints

WORDS = [
    "model=bert_l2_h128",
    "task=glue/mrpc",
    "source=sample",
    "source.rows=120",
    "init_from=scratch",
    "tracking=none",
    "model.d_model=16",
    "model.d_ff=32",
    "recipe.batch_size=8",
    "recipe.epochs=2",
    "recipe.lr=3e-3",
    "trainer.limit_train_batches=6",
    "trainer.limit_val_batches=2",
    "trainer.limit_test_batches=1",
    "trainer.log_every=2",
    "trainer.checkpoint_every=1",
    "trainer.keep_optimizer=true",
    "task.max_len=24",
    "hardware.threads=1",
]
SPEEDS = ("time", *(f"train/{name}" for name in ("examples_per_s", "tokens_per_s", "flops_per_s", "mfu", "data_wait")))


def config(outputs: Path, *overrides: str) -> dict[str, Any]:
    return compose([*WORDS, f"paths.outputs={outputs}", f"paths.cache={outputs.parent / 'cache'}", *overrides])


def only_run(outputs: Path) -> Path:
    return next(outputs.glob("*/glue/mrpc/*/config.yaml")).parent


def what_counts(run: Path) -> dict[str, Any]:
    lines = [{k: v for k, v in line.items() if k not in SPEEDS} for line in read_metrics(run / "metrics.jsonl")]
    predictions = {file.name: file.read_text(encoding="utf-8") for file in sorted((run / "predictions").iterdir())}
    result = json.loads((run / "result.json").read_text(encoding="utf-8"))
    return {
        "lines": lines,
        "predictions": predictions,
        "result": {key: result[key] for key in ("score", "metrics", "best", "run_id")},
        "steps": result["training"]["steps"],
    }


@pytest.mark.parametrize("every", [5, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("overrides", "steps", "validations"),
    [
        pytest.param([], 12, [6, 12], marks=pytest.mark.slow),
        (["hardware.micro_batch=3"], 12, [6, 12]),
        (["trainer.val_check_interval=3"], 12, [3, 6, 9, 12]),
        (["recipe.ema=0.9", "recipe.layerwise_lr_decay=0.8"], 12, [6, 12]),
        # of epochs of six steps: the first one's end is not validated
        (["trainer.val_check_interval=4"], 12, [4, 10, 12]),
        pytest.param(["trainer.val_check_interval=4", "hardware.workers=2"], 12, [4, 10, 12], marks=pytest.mark.slow),
        pytest.param(["trainer.val_check_interval=4", "recipe.max_steps=14"], 12, [4, 10, 12], marks=pytest.mark.slow),
        pytest.param(
            ["trainer.val_check_interval=4", "hardware.micro_batch=3"], 12, [4, 10, 12], marks=pytest.mark.slow
        ),
        pytest.param(["trainer.check_val_every_n_epoch=2"], 12, [12], marks=pytest.mark.slow),
        pytest.param(["task.splits.validation=null"], 12, [], marks=pytest.mark.slow),
        pytest.param(["trainer.max_steps=8"], 8, [6, 8], marks=pytest.mark.slow),
        (  # no score can rise by 100 points: it stops at the third validation, long before the last step
            ["recipe.early_stopping={patience:2,min_delta:100}", "recipe.epochs=9", "trainer.limit_train_batches=2"],
            6,
            [2, 4, 6],
        ),
    ],
    ids=[
        "epochs",
        "accumulated",
        "validated within epochs",
        "moving average",
        "across epochs",
        "across epochs, workers",
        "across epochs, limited",
        "across epochs, accumulated",
        "every other epoch",
        "no dev set",
        "steps",
        "stopped early",
    ],
)
def test_from_every_checkpoint_the_run_ends_the_same(
    tmp_path: Path,
    overrides: list[str],
    steps: int,
    validations: list[int],
    every: int,
) -> None:
    with kept_checkpoints(tmp_path) as kept:
        train(config(tmp_path / "whole", *overrides), "")
    whole = only_run(tmp_path / "whole")
    expected = what_counts(whole)
    weights = read_pickle(whole / "checkpoints" / "last.ckpt")["state_dict"]
    assert expected["steps"] == steps
    assert [line["step"] for line in expected["lines"] if "val/score" in line] == validations

    assert len(kept) == steps  # after each step, or after the validation that follows it
    for number, folder in list(enumerate(kept))[::every]:
        outputs = tmp_path / f"again-{number}"
        shutil.copytree(folder, outputs / whole.relative_to(tmp_path / "whole"))
        train(config(outputs, *overrides), "")
        again = only_run(outputs)
        assert what_counts(again) == expected, f"continued from checkpoint {number}"
        for name, tensor in read_pickle(again / "checkpoints" / "last.ckpt")["state_dict"].items():
            assert torch.equal(tensor, weights[name]), (number, name)


def stop_at_validation_batch(monkeypatch: pytest.MonkeyPatch, number: int) -> list[int]:
    """Asks the run to stop when the batch of this number is evaluated; steps of the batches that were evaluated in the fit."""
    steps: list[int] = []
    evaluate = TaskModule.validation_step

    def stop(self: TaskModule, *rest: Any) -> None:
        if self.trainer.state.fn == "fit":
            steps.append(self.trainer.global_step)
            self.stop.signal_number = int(len(steps) == number)
        evaluate(self, *rest)

    monkeypatch.setattr(TaskModule, "validation_step", stop)
    return steps


@pytest.mark.parametrize(
    ("overrides", "last_step"),
    [
        (["trainer.val_check_interval=3"], 12),
        (["trainer.max_steps=8", "recipe.average=2"], 8),
        (["recipe.ema=0.9"], 12),
        pytest.param(
            ["recipe.early_stopping={patience:1,min_delta:100}", "recipe.epochs=9", "trainer.limit_train_batches=2"],
            4,
            marks=pytest.mark.slow,
        ),
        pytest.param(
            ["task.probes=[glue/sst2]", "task.probe_every=3", "task.probe_rows=8", "task.probe_train_rows=12"],
            12,
            marks=pytest.mark.slow,
        ),
    ],
    ids=["within epochs", "steps", "moving average", "stopped early", "with probes"],
)
def test_a_stop_while_a_fit_validates_is_served_in_it_and_the_validation_is_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, overrides: list[str], last_step: int
) -> None:
    overrides = [*overrides, "trainer.checkpoint_every=100"]
    with monkeypatch.context() as patched:
        batches = stop_at_validation_batch(patched, 0)
        train(config(tmp_path / "whole", *overrides), "")
    whole = only_run(tmp_path / "whole")
    weights = read_pickle(whole / "checkpoints" / "last.ckpt")["state_dict"]
    assert batches[-2:] == [last_step] * 2
    for number in (1, len(batches) - 1):  # the first of two batches, in the first and in the last validation
        outputs = tmp_path / f"again-{number}"
        with monkeypatch.context() as patched:
            evaluated = stop_at_validation_batch(patched, number)
            with pytest.raises(InterruptedRunError, match=f"stopped at step {batches[number]};"):
                train(config(outputs, *overrides), "")
        assert evaluated == batches[:number]
        train(config(outputs, *overrides), "")
        again = only_run(outputs)
        assert what_counts(again) == what_counts(whole), f"stopped at validation batch {number}"
        for name, tensor in read_pickle(again / "checkpoints" / "last.ckpt")["state_dict"].items():
            assert torch.equal(tensor, weights[name]), (number, name)


def test_a_finished_run_returns_its_result_without_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = train(config(tmp_path / "out"), "")

    def never(*rest: Any) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(checkpointing.SaveLastCheckpoint, "on_fit_start", never)
    assert train(config(tmp_path / "out"), "") == first


def test_a_run_whose_last_checkpoint_is_damaged_goes_on_from_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    train(config(tmp_path / "whole"), "")

    def stop(self: StepLogger, trainer: pl.Trainer, module: Any, *rest: Any) -> None:
        module.stop.signal_number = int(trainer.global_step >= 7)

    with monkeypatch.context() as patched:
        patched.setattr(StepLogger, "on_train_batch_start", stop)
        with pytest.raises(InterruptedRunError, match="stopped at step 8"):
            train(config(tmp_path / "again"), "")
    last = only_run(tmp_path / "again") / "checkpoints" / "last.ckpt"
    last.write_bytes(last.read_bytes()[:-500])
    train(config(tmp_path / "again"), "")
    lines = capsys.readouterr().err
    assert "last.ckpt is damaged" in lines
    assert "continuing from step 7" in lines
    assert what_counts(only_run(tmp_path / "again")) == what_counts(only_run(tmp_path / "whole"))


def test_checkpoints_by_the_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step takes forty seconds of this clock."""
    saved: list[int] = []
    clock = {"now": 0.0}
    save = checkpointing.SaveLastCheckpoint._save

    def tick(self: StepLogger, *rest: Any) -> None:
        clock["now"] += 40.0

    def note(self: checkpointing.SaveLastCheckpoint, trainer: pl.Trainer, module: Any) -> None:
        save(self, trainer, module)
        saved.append(trainer.global_step)

    monkeypatch.setattr(checkpointing.time, "monotonic", lambda: clock["now"])
    monkeypatch.setattr(StepLogger, "on_train_batch_start", tick)
    monkeypatch.setattr(checkpointing.SaveLastCheckpoint, "_save", note)
    overrides = ["trainer.checkpoint_every=1000", "trainer.log_every=1", "recipe.epochs=1"]
    train(config(tmp_path / "out", *overrides, "trainer.checkpoint_minutes=1.5"), "")
    assert saved == [3, 6]  # after two minutes, and at the end
    assert "checkpoint_minutes" not in only_run(tmp_path / "out").name


def test_a_run_goes_on_with_other_micro_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same global batches, each once, whatever they are cut into; dropout off, since it would draw otherwise."""
    overrides = ["model.dropout=0", "trainer.checkpoint_every=100"]
    train(config(tmp_path / "whole", *overrides), "")
    expected = what_counts(only_run(tmp_path / "whole"))

    def stop(self: StepLogger, trainer: pl.Trainer, module: Any, *rest: Any) -> None:
        module.stop.signal_number = int(trainer.global_step >= 3)

    with monkeypatch.context() as patched:
        patched.setattr(StepLogger, "on_train_batch_start", stop)
        with pytest.raises(InterruptedRunError, match="stopped at step 4"):
            train(config(tmp_path / "again", *overrides, "hardware.micro_batch=3"), "")
    train(config(tmp_path / "again", *overrides, "hardware.micro_batch=2"), "")
    actual = what_counts(only_run(tmp_path / "again"))
    losses = [[line["train/loss"] for line in run["lines"] if "train/loss" in line] for run in (expected, actual)]
    assert losses[1][2:] == pytest.approx(losses[0][2:], rel=1e-5)
    assert actual["steps"] == expected["steps"] == 12
    assert actual["result"]["metrics"] == pytest.approx(expected["result"]["metrics"], rel=1e-4)


def test_weights_that_are_no_numbers_replace_no_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def spoil(self: StepLogger, trainer: pl.Trainer, module: Any, batch: Any, number: int) -> None:
        if trainer.global_step == 4:
            optimizer = trainer.optimizers[0]
            optimizer.param_groups[0]["lr"] = math.inf

    with monkeypatch.context() as patched:
        patched.setattr(StepLogger, "on_train_batch_start", spoil)
        with pytest.raises(DivergedError, match="at step 5; the last good checkpoint is kept"):
            train(config(tmp_path / "out"), "")
    saved = read_pickle(only_run(tmp_path / "out") / "checkpoints" / "last.ckpt")
    assert saved["global_step"] == 4
    assert all(torch.isfinite(tensor).all() for tensor in saved["state_dict"].values())
    train(config(tmp_path / "out"), "")  # and the run goes on from there
    assert what_counts(only_run(tmp_path / "out"))["steps"] == 12
