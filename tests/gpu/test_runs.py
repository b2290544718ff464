"""Whole runs on a GPU."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from protoformer.config.compose import compose
from protoformer.errors import DeviceMemoryError
from protoformer.models.weights import read_pickle
from protoformer.modules.task_module import TaskModule
from protoformer.runs.metrics import read_metrics
from protoformer.training.run import train

pytestmark = pytest.mark.gpu
WORDS = [
    "model=gpt2_tiny", "task=pretrain/clm", "source=sample", "tracking=none", "recipe.batch_size=8", "recipe.max_steps=12",
    "trainer.val_check_interval=12", "trainer.log_every=1", "trainer.checkpoint_every=1", "task.max_len=32",
    "task.module.sample_tokens=4", "hardware=gpu", "hardware.workers=0",
]  # fmt: skip


def run(outputs: Path, *overrides: str) -> Path:
    train(compose([*WORDS, f"paths.outputs={outputs}", f"paths.cache={outputs.parent / 'cache'}", *overrides]), "")
    return next(outputs.rglob("result.json")).parent


def weights(folder: Path) -> dict[str, Any]:
    return read_pickle(folder / "checkpoints" / "best.ckpt")["state_dict"]


def test_fp16_skips_no_step_at_the_start(tmp_path: Path) -> None:
    folder = run(tmp_path / "outputs", "hardware.precision=fp16")
    assert "skipped_steps" not in json.loads((folder / "result.json").read_text())["training"]
    assert {line["train/skipped_steps"] for line in read_metrics(folder / "metrics.jsonl") if "train/loss" in line} == {
        0.0
    }


def test_a_deterministic_run_is_the_same_twice(tmp_path: Path) -> None:
    first, second = (
        weights(run(tmp_path / name, "hardware.precision=bf16", "trainer.deterministic=true")) for name in ("a", "b")
    )
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())


def test_memory_that_runs_out_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def too_much(self: Any, batch: Any, batch_idx: int) -> torch.Tensor:
        return torch.empty(1 << 50, device="cuda")

    monkeypatch.setattr(TaskModule, "training_step", too_much)
    with pytest.raises(DeviceMemoryError, match=r"with 8 rows at once; .*hardware\.micro_batch=4"):
        run(tmp_path / "outputs", "hardware.micro_batch=8")
