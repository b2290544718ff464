"""Copies of a run folder as it was after each checkpoint."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import lightning.pytorch as pl


@contextlib.contextmanager
def kept_checkpoints(folder: Path) -> Iterator[list[Path]]:
    """Within the block each save of `last.ckpt` is followed by a copy of its run folder into `folder`: the copies."""
    kept: list[Path] = []
    save = pl.Trainer.save_checkpoint

    def save_and_keep(self: pl.Trainer, path: Any, *rest: Any, **more: Any) -> None:
        save(self, path, *rest, **more)
        if Path(path).name == "last.ckpt":
            kept.append(folder / f"folder-{len(kept)}")
            shutil.copytree(Path(path).parents[1], kept[-1], ignore=shutil.ignore_patterns("lock"))

    with mock.patch.object(pl.Trainer, "save_checkpoint", save_and_keep):
        yield kept
