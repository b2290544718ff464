"""Checkpoints that are whole or absent, hold nothing but tensors and plain containers, and are read as such."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import CheckpointIO

from protoformer.atomic import replace_atomically
from protoformer.models.weights import read_pickle

PLAIN = (str, bytes, int, float, bool, type(None), torch.Tensor)


def demand_plain(value: Any, where: str = "checkpoint") -> None:
    """Raises TypeError on anything that the weights-only reader would refuse later."""
    if isinstance(value, Mapping) and type(value).__module__ in ("builtins", "collections"):
        for key, inner in value.items():
            demand_plain(inner, f"{where}[{key!r}]")
    elif type(value) in (list, tuple, set) or (isinstance(value, tuple) and type(value).__module__ == "torch"):
        for number, inner in enumerate(value):
            demand_plain(inner, f"{where}[{number}]")
    elif not isinstance(value, PLAIN) and not isinstance(value, torch.dtype):
        raise TypeError(f"{where} holds a {type(value).__module__}.{type(value).__qualname__}: not a plain container")


class AtomicCheckpointIO(CheckpointIO):
    """Writes beside the target, flushes to the disk, renames."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        demand_plain(checkpoint)
        # to a file, not to a path: torch.save would write the temporary name into the archive
        with replace_atomically(Path(path)) as tmp, tmp.open("wb") as file:
            torch.save(checkpoint, file)

    def load_checkpoint(self, path: Any, map_location: Any | None = None, weights_only: bool | None = None) -> Any:
        return read_pickle(Path(path))

    def remove_checkpoint(self, path: Any) -> None:
        Path(path).unlink(missing_ok=True)
