"""Checkpoints are whole or absent, and hold nothing that would have to be unpickled."""

import os
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from protoformer.errors import WeightsError
from protoformer.models.weights import read_pickle
from protoformer.training.checkpoint_io import AtomicCheckpointIO


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
        with pytest.raises(OSError, match="No space"):
            AtomicCheckpointIO().save_checkpoint({"step": 2}, place)
    assert AtomicCheckpointIO().load_checkpoint(place) == {"step": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["last.ckpt"]


def test_a_truncated_one_is_named(tmp_path: Path) -> None:
    place = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"w": torch.zeros(1000)}, place)
    place.write_bytes(place.read_bytes()[:2000])
    with pytest.raises(WeightsError, match=r"last\.ckpt"):
        read_pickle(place)
