"""Damaged checkpoints are noticed before a run continues, and the one before is taken."""

import logging
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from protoformer.errors import RunFolderError
from protoformer.models.weights import read_pickle
from protoformer.runs.checkpoint_files import choose_whole_checkpoint, damage
from protoformer.runs.folder import RunFolder
from protoformer.training.checkpoints import drop_states, keep_replaced, write_checkpoint


def write(folder: RunFolder, step: int, keep: int = 3) -> None:
    with keep_replaced(folder, keep):
        content = {"state_dict": {"w": torch.full((5000,), float(step))}, "global_step": step}
        write_checkpoint(content, folder.last_checkpoint)


def steps(folder: RunFolder) -> list[int]:
    return [read_pickle(path)["global_step"] for path in (folder.last_checkpoint, *folder.earlier_checkpoints)]


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1000)


def empty(path: Path) -> None:
    os.truncate(path, 0)


def flip(path: Path) -> None:
    """One bit within a tensor."""
    content = bytearray(path.read_bytes())
    at = content.index(torch.full((8,), float(read_pickle(path)["global_step"])).numpy().tobytes()) + 9
    content[at] ^= 4
    path.write_bytes(content)


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path / "run", "run")


@pytest.mark.parametrize("number", [1, 2, 3])
def test_the_last_ones_are_kept_in_order(folder: RunFolder, number: int) -> None:
    for step in range(1, 6):
        write(folder, step, number)
        assert steps(folder) == list(range(step, 0, -1))[:number]
    write(folder, 6, 1)  # a smaller number than before drops none of them, nor makes any older
    drop_states(folder, keep_last=True)
    assert steps(folder) == [6]


def test_they_are_kept_without_hard_links_too(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*paths: object) -> None:
        raise PermissionError("no hard links here")

    monkeypatch.setattr(os, "link", refuse)
    for step in (1, 2, 3):
        write(folder, step)
    assert steps(folder) == [3, 2, 1]


def test_a_save_that_fails_changes_nothing(folder: RunFolder) -> None:
    for step in (1, 2):
        write(folder, step)
    with pytest.raises(OSError, match="broken"), keep_replaced(folder, 3):
        raise OSError("broken")
    assert steps(folder) == [2, 1]
    assert not list(folder.path.rglob(".*"))


@pytest.mark.parametrize("damaged", [truncate, empty, flip])
def test_a_damaged_one_is_skipped_for_the_one_before(
    folder: RunFolder, damaged: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    for step in (1, 2, 3):
        write(folder, step)
    choose_whole_checkpoint(folder)
    assert steps(folder) == [3, 2, 1]
    assert damage(folder.last_checkpoint) is None
    damaged(folder.last_checkpoint)
    damaged(folder.earlier / "1.ckpt")
    with caplog.at_level(logging.WARNING):
        choose_whole_checkpoint(folder)
    assert read_pickle(folder.last_checkpoint)["global_step"] == 1
    assert "last.ckpt is damaged (" in caplog.text
    assert "continuing from the one before" in caplog.text


def test_where_none_is_whole_the_line_says_what_would_do(folder: RunFolder) -> None:
    choose_whole_checkpoint(folder)  # a run that has none is a new one
    for step in (1, 2):
        write(folder, step)
    flip(folder.last_checkpoint)
    truncate(folder.earlier / "1.ckpt")
    with pytest.raises(RunFolderError, match=r"last\.ckpt is damaged \(the checksum of .* is wrong\).*force=true"):
        choose_whole_checkpoint(folder)


def test_the_best_one_is_looked_at_too(folder: RunFolder) -> None:
    write(folder, 1)
    write_checkpoint({"state_dict": {}, "global_step": 1}, folder.best_checkpoint)
    choose_whole_checkpoint(folder)
    truncate_to = folder.best_checkpoint.stat().st_size // 2
    os.truncate(folder.best_checkpoint, truncate_to)
    with pytest.raises(RunFolderError, match=r"best\.ckpt is damaged"):
        choose_whole_checkpoint(folder)
