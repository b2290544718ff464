"""An automatic micro-batch that halves where memory runs out: by allocations that fail above a number of rows."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from protoformer.config.compose import compose
from protoformer.errors import DeviceMemoryError, InterruptedRunError, MicroBatchError
from protoformer.models.weights import read_checkpoint
from protoformer.modules.kinds.classification import ClassificationModule
from protoformer.runs.metrics import read_metrics
from protoformer.training.callbacks.step_logger import StepLogger
from protoformer.training.run import train

from ...forked_ranks import forked_ranks

WORDS = [
    *("model=bert_l2_h128", "task=glue/mrpc", "source=sample", "source.rows=120", "init_from=scratch", "tracking=none"),
    *("model.d_model=16", "model.d_ff=32", "recipe.batch_size=8", "recipe.epochs=2", "recipe.lr=3e-3", "task.max_len=24"),
    *("trainer.limit_train_batches=3", "trainer.limit_val_batches=1", "trainer.limit_test_batches=1", "trainer.log_every=1"),
    *("trainer.keep_optimizer=true", "hardware.threads=1", "hardware=cpu"),
]  # fmt: skip
WITHOUT_DROPOUT = ("model.dropout=0", "model.attention_dropout=0")
Fails = Callable[..., None]


def run(outputs: Path, *overrides: str) -> Path:
    with forked_ranks():
        train(compose([*WORDS, f"paths.outputs={outputs}", f"paths.cache={outputs.parent / 'cache'}", *overrides]), "")
    return next(outputs.rglob("result.json")).parent


def curve(folder: Path) -> list[list[float]]:
    lines = read_metrics(folder / "metrics.jsonl")
    return [[line["step"], line["train/loss"], line["train/grad_norm"]] for line in lines if "train/loss" in line]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return read_checkpoint(folder / "checkpoints" / "last.ckpt")["state_dict"]


@pytest.fixture
def fails(monkeypatch: pytest.MonkeyPatch) -> Fails:
    """`fails(rows, step, rank)`: from optimizer step `step` on, memory of `rank` holds no more than `rows`; in the forward pass
    or, with `backward`, in the middle of the backward pass."""
    loss = ClassificationModule.loss

    def failing(rows: int, step: int = 0, rank: int = 0, backward: bool = False) -> None:
        def out_of_memory(*rest: Any) -> None:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")

        def limited(self: ClassificationModule, batch: Any) -> Any:
            computed = loss(self, batch)
            is_there = self.trainer.global_step >= step and int(os.environ.get("RANK", "0")) == rank
            if is_there and self.training and len(batch["ids"]) > rows:
                if not backward:
                    out_of_memory()
                computed.total.register_hook(out_of_memory)
            return computed

        monkeypatch.setattr(ClassificationModule, "loss", limited)

    return failing


@pytest.mark.parametrize("backward", [pytest.param(False, marks=pytest.mark.slow), True])
def test_before_the_first_step_it_is_a_run_with_less_from_the_start_to_the_bit(
    tmp_path: Path, fails: Fails, capfd: pytest.CaptureFixture[str], backward: bool
) -> None:
    small = run(tmp_path / "small", "hardware.micro_batch=2")
    capfd.readouterr()
    fails(2, backward=backward)
    halved = run(tmp_path / "halved")
    lines = [line for line in capfd.readouterr().err.splitlines() if "out of memory" in line]
    assert lines == [
        f"out of memory with {n} rows at once; continuing from the last checkpoint with {n // 2}" for n in (8, 4)
    ]
    assert curve(halved) == curve(small)
    assert all(torch.equal(tensor, weights(small)[name]) for name, tensor in weights(halved).items())
    assert json.loads((halved / "micro_batch.json").read_text()) == {"micro_batch": 2}
    assert halved.name == small.name  # no result depends on it


@pytest.mark.parametrize(("hardware", "rank"), [("cpu", 0), ("ddp_cpu", 1)])
def test_in_the_middle_the_step_is_done_again_with_half_the_rows(
    tmp_path: Path, fails: Fails, hardware: str, rank: int
) -> None:
    words = (*WITHOUT_DROPOUT, f"hardware={hardware}", "trainer.checkpoint_every=1")
    whole = run(tmp_path / "whole", *words)
    fails(2, step=4, rank=rank)
    halved = run(tmp_path / "halved", *words)
    assert curve(halved) == [pytest.approx(step, rel=1e-4) for step in curve(whole)]
    assert [step for step, *_ in curve(halved)] == [1, 2, 3, 4, 5, 6]  # each once
    for name, tensor in weights(whole).items():
        torch.testing.assert_close(weights(halved)[name], tensor, rtol=1e-3, atol=1e-5, msg=name)
    assert json.loads((halved / "micro_batch.json").read_text()) == {"micro_batch": 2}


def test_a_run_that_is_continued_begins_with_what_fits(
    tmp_path: Path, fails: Fails, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[int] = []

    def stop(self: StepLogger, trainer: Any, module: Any, batch: Any, number: int) -> None:
        held.append(len(batch["ids"]))
        module.stop.signal_number = int(stops and trainer.global_step >= 3)

    monkeypatch.setattr(StepLogger, "on_train_batch_start", stop)
    fails(4)
    stops = True
    with pytest.raises(InterruptedRunError):
        run(tmp_path / "out")
    assert held[:3] == [8, 4, 4]
    held.clear()
    stops = False
    run(tmp_path / "out")
    assert held == [4] * 4  # two steps in two micro-batches


def test_a_micro_batch_of_the_users_own_and_a_single_row_end_the_run(
    tmp_path: Path, fails: Fails, monkeypatch: pytest.MonkeyPatch
) -> None:
    fails(0)
    with pytest.raises(
        DeviceMemoryError, match=r"with 4 rows at once; half as many, .*hardware\.micro_batch=2$"
    ) as caught:
        run(tmp_path / "own", "hardware.micro_batch=4")
    assert not isinstance(caught.value, MicroBatchError)
    with pytest.raises(DeviceMemoryError, match=r"with 1 row at once; .*a smaller model takes less") as caught:
        run(tmp_path / "automatic")
    assert not isinstance(caught.value, MicroBatchError)
    assert not list((tmp_path / "automatic").rglob("micro_batch.json"))  # nothing was trained: no folder is left
