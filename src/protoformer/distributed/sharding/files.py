"""Files of sharded tensors: a folder with a safetensors file a rank, by torch.distributed.checkpoint.

DCP's own format keeps a pickled `.metadata`, which would be unpickled by whoever opens a checkpoint. Its safetensors format
needs none: the header of each file says in JSON which part of which tensor it holds. A part that is missing would go unnoticed
there, so what the folder must hold is written elsewhere (`Manifest`) and compared.

Any number of processes can read a folder, also one process alone: each reads the parts that it needs.
"""

import json
import warnings
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypedDict

import torch
from torch import Tensor, distributed
from torch.distributed.tensor import DTensor

from protoformer.atomic import FULL, full_disk
from protoformer.errors import DiskFullError, WeightsError

MANIFEST = "sharded_tensors"  # key of a checkpoint whose tensors are in a folder of shards
SHARDS = "shards"  # of all checkpoints of a run: a folder beside their files


class Manifest(TypedDict):
    """What a folder of shards holds: its name, shape and type of each tensor, bytes of each
    file. Plain containers, so that torch's weights-only reader takes it."""

    folder: str
    tensors: dict[str, tuple[list[int], torch.dtype]]
    files: dict[str, int]


CHECKSUMS = "checksums.json"  # in the folder: CRC-32 of each file, for who looks for damage without torch


def shards_folder(checkpoint: Path, manifest: Manifest) -> Path:
    """The folder that a checkpoint names, beside its file or, for one that was set aside (`earlier/1.ckpt`), above it."""
    beside = checkpoint.parent / SHARDS / manifest["folder"]
    return beside if beside.is_dir() else checkpoint.parents[1] / SHARDS / manifest["folder"]


def write_shards(tensors: Mapping[str, Tensor], folder: Path, checkpoint: Path) -> None:
    """Write this rank's part of each tensor into an existing folder, flushed to the disk. A collective of all ranks.

    Raises DiskFullError, which names `checkpoint`, on every rank where one of them finds no space.
    """
    from torch.distributed import checkpoint as dcp  # slow to import, and runs on one device need none of it

    writer = dcp.HuggingFaceStorageWriter(path=str(folder), save_distributed=True)
    try:
        dcp.save(dict(tensors), storage_writer=writer)
    except dcp.api.CheckpointException as failure:  # on every rank, with the errors of all
        for error, _ in failure.failures.values():
            if isinstance(error, OSError) and error.errno in FULL:
                raise DiskFullError(full_disk(checkpoint)) from None
        raise
    checksums: list[Any] = [None] * distributed.get_world_size()
    own = sorted(folder.glob(f"shard-{distributed.get_rank() + 1:05d}-*"))
    distributed.all_gather_object(checksums, {path.name: _crc32(path) for path in own})
    if distributed.get_rank() == 0:
        merged = {name: crc for of_rank in checksums for name, crc in of_rank.items()}
        (folder / CHECKSUMS).write_text(json.dumps(merged), encoding="utf-8")


def _crc32(path: Path) -> int:
    crc = 0
    with path.open("rb") as file:
        while chunk := file.read(2**20):
            crc = zlib.crc32(chunk, crc)
    return crc


def describe(tensors: Mapping[str, Tensor], folder: Path, name: str) -> Manifest:
    """The manifest of a folder that all ranks have written, which will be called `name`."""
    return Manifest(
        folder=name,
        tensors={key: (list(tensor.shape), tensor.dtype) for key, tensor in tensors.items()},
        files={path.name: path.stat().st_size for path in sorted(folder.iterdir())},
    )


def read_shards(into: Mapping[str, Tensor], folder: Path, manifest: Manifest) -> None:
    """Fill tensors, each whole or sharded, from a folder. Nothing is exchanged between ranks.

    Raises WeightsError for a file that is missing or of another size, and for tensors that do not fit.
    """
    from torch.distributed import checkpoint as dcp  # as above

    for name, size in manifest["files"].items():
        path = folder / name
        if not path.is_file() or path.stat().st_size != size:
            state = "corrupt or truncated" if path.is_file() else "missing"
            raise WeightsError(f"{path}: {state}, so the checkpoint cannot be read")
    missing = sorted(into.keys() - manifest["tensors"].keys())
    if missing:
        raise WeightsError(f"{folder}: has no tensor {missing[0]}")
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "torch.distributed is disabled")  # as it is meant here
            dcp.load(dict(into), storage_reader=dcp.HuggingFaceStorageReader(path=str(folder)), no_dist=True)
    except Exception as error:  # of several libraries
        reason = " ".join(str(error).split())[:200]
        raise WeightsError(f"{folder}: does not fit, or is corrupt ({reason})") from None


def read_whole(folder: Path, manifest: Manifest) -> dict[str, Tensor]:
    """All tensors of a folder, whole and on the CPU, in one process."""
    tensors = {key: torch.empty(shape, dtype=dtype) for key, (shape, dtype) in manifest["tensors"].items()}
    read_shards(tensors, folder, manifest)
    return tensors


def take_sharded(checkpoint: dict[str, Any]) -> dict[str, Tensor]:
    """Take the sharded tensors out of a checkpoint's weights and optimizer states: key -> tensor.

    `put_back` fills them in again. Containers are copied: those of an optimizer's state are the ones that it steps with.
    """
    checkpoint["state_dict"] = dict(checkpoint["state_dict"])
    if "optimizer_states" in checkpoint:
        checkpoint["optimizer_states"] = [
            {**each, "state": {index: dict(state) for index, state in each["state"].items()}}
            for each in checkpoint["optimizer_states"]
        ]
    taken: dict[str, Tensor] = {}
    for prefix, tensors in _containers(checkpoint):
        for name in [name for name, value in tensors.items() if isinstance(value, DTensor)]:
            taken[prefix + str(name)] = tensors.pop(name)
    return taken


def put_back(checkpoint: dict[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """The opposite of `take_sharded`."""
    containers = dict(_containers(checkpoint))
    for key, tensor in tensors.items():
        prefix = "state_dict." if key.startswith("state_dict.") else key.rpartition(".")[0] + "."
        containers[prefix][key.removeprefix(prefix)] = tensor


def _containers(checkpoint: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """The mappings that hold sharded tensors, each with the prefix of its keys: `state_dict.`, `optimizer.0.12.`."""
    containers = [("state_dict.", checkpoint["state_dict"])]
    for number, optimizer in enumerate(checkpoint.get("optimizer_states", ())):
        containers += [(f"optimizer.{number}.{index}.", state) for index, state in optimizer["state"].items()]
    return containers
