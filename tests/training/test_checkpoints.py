"""Checkpoints are whole or absent, and hold nothing that would have to be unpickled."""

import gc
import os
import resource
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import pytest
import torch
from omegaconf import OmegaConf

from protoformer.errors import DiskFullError, WeightsError
from protoformer.models.weights import read_pickle
from protoformer.training.callbacks.checkpointing import SaveBestCheckpoint
from protoformer.training.checkpoints import AtomicCheckpointIO, CheckpointHeader, read_header, write_checkpoint


def test_what_is_saved_is_read_back_weights_only(tmp_path: Path) -> None:
    state = {"state_dict": {"w": torch.arange(3.0)}, "steps": 3, "nested": [{"a": (1, None)}, "b", torch.float32]}
    AtomicCheckpointIO().save_checkpoint(state, tmp_path / "deep" / "last.ckpt")
    back = AtomicCheckpointIO().load_checkpoint(tmp_path / "deep" / "last.ckpt")
    assert torch.equal(back["state_dict"]["w"], state["state_dict"]["w"])  # type: ignore[index]
    assert back["nested"] == state["nested"]
    assert [file.name for file in (tmp_path / "deep").iterdir()] == ["last.ckpt"]


@pytest.mark.parametrize("foreign", [OmegaConf.create({"a": 1}), Path("x"), object()])
def test_what_would_need_unpickling_is_refused_when_it_is_saved(tmp_path: Path, foreign: object) -> None:
    with pytest.raises(TypeError, match=r"checkpoint\['extra'\]\[0\] holds a .*: not a plain container"):
        AtomicCheckpointIO().save_checkpoint({"extra": [foreign]}, tmp_path / "last.ckpt")
    assert not (tmp_path / "last.ckpt").exists()


def test_a_full_disk_leaves_the_last_good_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"step": 1}, place)

    def full(*rest: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(DiskFullError, match="no space left"):
            AtomicCheckpointIO().save_checkpoint({"step": 2}, place)
    assert AtomicCheckpointIO().load_checkpoint(place) == {"step": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["last.ckpt"]


def test_a_truncated_one_is_named(tmp_path: Path) -> None:
    place = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"w": torch.zeros(1000)}, place)
    place.write_bytes(place.read_bytes()[:2000])
    with pytest.raises(WeightsError, match=r"last\.ckpt"):
        read_pickle(place)


def test_a_header_is_read_without_the_tensors(tmp_path: Path) -> None:
    """The weights of 64 MB are mapped into memory; what is read of them stays far below."""
    path = tmp_path / "last.ckpt"
    weights = torch.ones(16 * 2**20)
    write_checkpoint({"state_dict": {"w": weights}, "global_step": 5, "epoch": 2, "loops": {"a": [1]}}, path)
    before = resident_bytes()
    assert read_header(path) == CheckpointHeader(global_step=5, epoch=2)
    assert resident_bytes() - before < 16 * 2**20
    write_checkpoint({"state_dict": {}, "global_step": 9, "averaged_steps": [8, 9]}, path)
    assert read_header(path) == CheckpointHeader(9, None, [8, 9])


def resident_bytes() -> int:
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def test_of_scores_of_zero_the_lowest_loss_is_the_best_and_of_others_the_earliest(tmp_path: Path) -> None:
    saved: list[int] = []

    class Trainer:
        state = SimpleNamespace(fn="fit")
        sanity_checking = False
        callback_metrics: ClassVar[dict[str, float]] = {}

        def save_checkpoint(self, path: Path, weights_only: bool) -> None:
            saved.append(len(steps))

    steps: list[tuple[float, float]] = []
    callback = SaveBestCheckpoint(tmp_path / "best.ckpt")
    for score, loss in [(0.0, 9.0), (0.0, 8.0), (0.0, 8.5), (0.2, 7.0), (0.2, 6.0), (0.1, 5.0), (0.3, 9.0)]:
        steps.append((score, loss))
        Trainer.callback_metrics = {"val/score": score, "val/loss": loss}
        callback.on_validation_end(Trainer(), None)  # type: ignore[arg-type]
        restored = SaveBestCheckpoint(tmp_path / "best.ckpt")
        restored.load_state_dict(callback.state_dict())
        callback = restored
    assert saved == [1, 2, 4, 7]
