"""A run on one process, then two ranks, then one: examples of each step, losses and scores of one that never stopped."""

import contextlib
import json
import os
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch

from protoformer.modules.task_module import TaskModule

from .test_sharding import MLM, MRPC, curve, last, result, run, run_until_stopped

TRANSLATION = ("model=transformer_tiny", "task=translate/multi30k_de_en", "source.rows=60", "recipe.batch_size=200")
KINDS = {
    "classification": (*MRPC, "trainer.limit_test_batches=1"),  # 4 batches an epoch, the last of 12 rows
    "length_grouped": (*MRPC, "recipe.batching=length_grouped"),
    "tokens": (*TRANSLATION, "recipe.label_smoothing=0.1", "task.vocabulary.size=600"),
    "mlm": MLM,  # a number of targets for each row
}


@contextlib.contextmanager
def noted_examples(folder: Path) -> Iterator[None]:
    """Within the block each process, forked ones too, notes the step and the examples of all its micro-batches in `folder`."""
    folder.mkdir()
    training_step = TaskModule.training_step

    def note(self: TaskModule[Any, Any], batch: Any, batch_idx: int) -> Any:
        with (folder / f"{os.getpid()}.jsonl").open("a", encoding="utf-8") as file:
            print(json.dumps([self.trainer.global_step, batch["example_ids"].tolist()]), file=file)
        return training_step(self, batch, batch_idx)

    with mock.patch.object(TaskModule, "training_step", note):
        yield


def examples(folder: Path) -> dict[int, list[int]]:
    """Examples of each step, sorted; one that was trained on twice stands there twice."""
    steps: dict[int, list[int]] = defaultdict(list)
    for file in folder.iterdir():
        for line in file.read_text(encoding="utf-8").splitlines():
            step, ids = json.loads(line)
            steps[step] += [example for example in ids if example >= 0]
    return {step: sorted(ids) for step, ids in steps.items()}


def evaluated(folder: Path) -> dict[str, list[tuple[Any, Any]]]:
    """Identifier and label of every row of the predictions."""
    return {
        file.name: [(row["id"], row.get("label")) for row in map(json.loads, file.read_text("utf-8").splitlines())]
        for file in sorted((folder / "predictions").glob("*.jsonl"))
    }


@pytest.mark.parametrize(
    ("kind", "stops"),
    [
        ("classification", (3, 6)),
        pytest.param("classification", (4, 8), marks=pytest.mark.slow),  # at ends of epochs
        *(pytest.param(kind, (3, 6), marks=pytest.mark.slow) for kind in ("length_grouped", "tokens", "mlm")),
    ],
)
def test_one_process_then_two_ranks_then_one(tmp_path: Path, kind: str, stops: tuple[int, int]) -> None:
    overrides = (*KINDS[kind], "recipe.max_steps=10", "trainer.checkpoint_every=100")
    with noted_examples(tmp_path / "expected"):
        whole = run(tmp_path / "whole", "cpu", *overrides)
    with noted_examples(tmp_path / "actual"):
        run_until_stopped(tmp_path / "again", "cpu", stops[0], *overrides)
        run_until_stopped(tmp_path / "again", "ddp_cpu", stops[1], *overrides, "hardware.micro_batch=3")
        again = run(tmp_path / "again", "cpu", *overrides)
    assert len(list((tmp_path / "actual").iterdir())) == 3  # this process, and two ranks
    steps = examples(tmp_path / "expected")
    assert sorted(steps) == list(range(10))
    assert examples(tmp_path / "actual") == steps
    assert curve(again) == [pytest.approx(step, rel=2e-4) for step in curve(whole)]
    assert len(curve(whole)) == 10
    assert evaluated(again) == evaluated(whole)
    assert result(again)["metrics"] == pytest.approx(result(whole)["metrics"], rel=1e-3)
    assert result(again)["training"]["steps"] == 10
    for name, tensor in last(whole)["state_dict"].items():
        torch.testing.assert_close(last(again)["state_dict"][name], tensor, rtol=1e-3, atol=2e-4, msg=name)
