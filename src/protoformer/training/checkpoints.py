"""Checkpoint files: their format, and how they are written and read.

`last.ckpt` (to continue from), `best.ckpt`, `averaged.ckpt` and the snapshots that are averaged are each one file: a dict
with `state_dict`, `global_step` and, depending on the kind of file, `epoch`, `averaged_steps`, `logged_lines` and the states of
optimizer, loops and callbacks. Files hold tensors and plain containers alone, are read by torch's weights-only reader, and
are written atomically.
"""

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import lightning.pytorch as pl
import torch
from lightning.pytorch.plugins.io import CheckpointIO
from torch import nn

from protoformer.atomic import replace_atomically, replace_file
from protoformer.distributed.sharding.files import MANIFEST, SHARDS
from protoformer.distributed.sharding.units import full_tensor
from protoformer.errors import WeightsError
from protoformer.models.weights import StateDict, read_checkpoint, read_pickle
from protoformer.runs.folder import RunFolder

VALIDATION_IS_DUE = "validation_is_due"  # entry of a checkpoint that was written in the middle of its step's validation
SAFE_TYPES = (str, bytes, int, float, bool, type(None), torch.Tensor, torch.dtype)


class CheckpointHeader(NamedTuple):
    """What a checkpoint says of itself beside its tensors; None where the kind of file has no such entry."""

    global_step: int
    epoch: int | None = None
    averaged_steps: list[int] | None = None
    logged_lines: int | None = None  # of metrics.jsonl, when it was written


def write_checkpoint(content: Mapping[str, object], path: Path) -> None:
    """Write a checkpoint atomically; missing parent folders are made.

    Raises TypeError, before anything is written, on a value that the weights-only reader would refuse.
    """
    check_safe_types(content)
    with replace_atomically(path, needed=size_of(content)) as tmp:
        tmp.touch()  # where that is not allowed it raises an OSError, and torch.save one without a name
        torch.save(content, tmp)


def remove_unnamed_shards(checkpoints: Path) -> None:
    """Remove the folders of shards that no checkpoint of a run names (any more); none, where one cannot be read."""
    folders = [path for path in (checkpoints / SHARDS).glob("*") if not path.name.startswith(".")]
    if not folders:
        return
    try:
        contents = [read_pickle(path, mmap=True) for path in checkpoints.rglob("*.ckpt")]
    except WeightsError:
        return
    named = {content[MANIFEST]["folder"] for content in contents if MANIFEST in content}
    for folder in folders:
        if folder.name not in named:
            shutil.rmtree(folder, ignore_errors=True)


def read_header(path: Path) -> CheckpointHeader:
    """Step and epoch of a checkpoint, without reading its tensors. Raises WeightsError for a corrupt file."""
    content = _mapped(path)
    return CheckpointHeader(**{name: content[name] for name in CheckpointHeader._fields if name in content})


def check_fits(path: Path, module: nn.Module) -> None:
    """Raise WeightsError for a checkpoint of another model, naming the first weight that differs."""
    content = _mapped(path)
    theirs = {name: list(tensor.shape) for name, tensor in content["state_dict"].items()}
    for key, (shape, _) in content.get(MANIFEST, {}).get("tensors", {}).items():
        if key.startswith("state_dict."):
            theirs[key.removeprefix("state_dict.")] = list(shape)
    ours = {name: list(tensor.shape) for name, tensor in module.state_dict().items()}
    for name in (*ours, *theirs):
        if ours.get(name) != theirs.get(name):
            there, here = (shapes.get(name, "missing") for shapes in (theirs, ours))
            raise WeightsError(
                f"{path} is a checkpoint of another model: {name} is {there} there, {here} in this one; force=true starts a "
                "new attempt"
            )


def _mapped(path: Path) -> Any:
    """A checkpoint whose tensors are not read."""
    content = read_pickle(path, mmap=True)
    if not isinstance(content, dict) or not {"state_dict", "global_step"} <= content.keys():
        raise WeightsError(f"{path} is no checkpoint of a run: it has no state_dict and global_step")
    return content


def collect_state_dict(trainer: pl.Trainer) -> StateDict:
    """The whole weights of the trained module, on rank 0. Every rank must call it: sharded weights are gathered."""
    whole = {name: full_tensor(tensor) for name, tensor in trainer.strategy.lightning_module_state_dict().items()}
    return whole if trainer.is_global_zero else {}


def check_safe_types(value: Any, path: str = "checkpoint") -> None:
    """Raises TypeError, naming the entry, on anything that the weights-only reader would refuse later."""
    if isinstance(value, Mapping) and type(value).__module__ in ("builtins", "collections"):
        for key, inner in value.items():
            check_safe_types(inner, f"{path}[{key!r}]")
    elif type(value) in (list, tuple, set) or (isinstance(value, tuple) and type(value).__module__ == "torch"):
        for index, inner in enumerate(value):
            check_safe_types(inner, f"{path}[{index}]")
    elif not isinstance(value, SAFE_TYPES):
        raise TypeError(f"{path} holds a {type(value).__module__}.{type(value).__qualname__}: not a plain container")


def size_of(value: object) -> int:
    """Bytes of the tensors in nested containers."""
    if isinstance(value, torch.Tensor):
        return value.nbytes
    if isinstance(value, Mapping):
        return sum(map(size_of, value.values()))
    return sum(map(size_of, value)) if isinstance(value, list | tuple | set) else 0


@contextmanager
def keep_replaced(folder: RunFolder, number: int) -> Iterator[None]:
    """Within the block `last.ckpt` is written anew; what it was is kept as `earlier/1.ckpt`, what that was as `earlier/2.ckpt`,
    so that `number` checkpoints stay in all.

    Nothing changes where the block raises. No copy is made where the file system has hard links.
    """
    last, newest = folder.last_checkpoint, folder.earlier / "1.ckpt"
    if number == 1 or not last.exists():
        yield
        return
    with replace_atomically(newest) as tmp:
        try:
            os.link(last, tmp)
        except OSError:  # a file system without hard links
            shutil.copyfile(last, tmp)
        yield
        for path in reversed(folder.earlier_checkpoints):
            if int(path.stem) + 1 < number:
                replace_file(path, path.with_name(f"{int(path.stem) + 1}.ckpt"))
            elif path != newest:
                path.unlink()


def drop_states(folder: RunFolder, keep_last: bool) -> None:
    """Remove the checkpoints that a finished run would have continued from, but for `last.ckpt` with `keep_last`; of its only
    weights, all but the weights."""
    shutil.rmtree(folder.earlier, ignore_errors=True)
    remove_unnamed_shards(folder.checkpoints)
    last = folder.last_checkpoint
    if keep_last or not last.exists():
        return
    if folder.best_checkpoint.exists() or folder.averaged_checkpoint.exists():
        last.unlink()
        remove_unnamed_shards(folder.checkpoints)
        return
    content = read_checkpoint(last)
    write_checkpoint({name: content[name] for name in ("state_dict", "global_step", "epoch") if name in content}, last)
    remove_unnamed_shards(folder.checkpoints)


class AtomicCheckpointIO(CheckpointIO):
    """The functions above as the Trainer's plugin."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        write_checkpoint(checkpoint, Path(path))

    def load_checkpoint(self, path: Any, map_location: Any | None = None, weights_only: bool | None = None) -> Any:
        return read_checkpoint(Path(path))

    def remove_checkpoint(self, path: Any) -> None:
        Path(path).unlink(missing_ok=True)
