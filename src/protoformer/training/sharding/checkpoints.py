"""Checkpoints of sharded runs: one small file, and beside it a folder of shards that the file names.

`last.ckpt` holds everything but the sharded tensors, and under `sharded_tensors` a manifest of `shards/last-STEP`, in which
each rank has written its part of weights and optimizer states (see `distributed.sharding.files`). The folder is complete and
flushed before the file replaces the one before it, so one rename decides which checkpoint there is. Folders that no file names
any more are removed when the next checkpoint is written.

Optimizer states have the same keys as in the checkpoint of one process, so either kind continues as the other, on any number of
ranks: `models.weights.read_checkpoint` makes whole tensors of it in one process, `read_divided` each rank's part.
"""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

from protoformer.atomic import create_folder_atomically
from protoformer.distributed.collectives import broadcast_from_rank0
from protoformer.distributed.sharding.files import (
    MANIFEST,
    SHARDS,
    describe,
    put_back,
    read_shards,
    shards_folder,
    take_sharded,
    write_shards,
)
from protoformer.distributed.sharding.units import divided_like, is_sharded
from protoformer.distributed.world import is_main
from protoformer.models.weights import read_checkpoint, read_pickle
from protoformer.training.checkpoints import remove_unnamed_shards, write_checkpoint


def write_divided(checkpoint: dict[str, Any], path: Path) -> None:
    """Write a checkpoint whose weights and optimizer states are sharded. A collective of all ranks."""
    tensors = take_sharded(checkpoint)
    with ExitStack() as stack:
        name, unfinished = broadcast_from_rank0(lambda: _begin(path, checkpoint["global_step"], stack))
        write_shards(tensors, unfinished, path)
        if is_main():
            checkpoint[MANIFEST] = describe(tensors, unfinished, name)
    if is_main():
        write_checkpoint(checkpoint, path)


def _begin(path: Path, step: int, stack: ExitStack) -> tuple[str, Path]:
    """A name that no folder has, and the temporary folder that gets it when `stack` is closed."""
    remove_unnamed_shards(path.parent)
    name = f"{path.stem}-{step:09d}"
    while (path.parent / SHARDS / name).exists():  # the checkpoint of this step is written again
        name += "+"
    return name, stack.enter_context(create_folder_atomically(path.parent / SHARDS / name))


def read_divided(path: Path, module: nn.Module, optimizers: Sequence[Optimizer] = ()) -> dict[str, Any]:
    """A checkpoint of either kind, with this rank's part of weights and optimizer states, divided as the module's are.

    Raises WeightsError for a corrupt one.
    """
    checkpoint: dict[str, Any] = read_pickle(path, mmap=True)  # of whole tensors only this rank's part is read
    if not optimizers:
        checkpoint.pop("optimizer_states", None)
    weights = module.state_dict()
    parameters = [[p for group in each.param_groups for p in group["params"]] for each in optimizers]
    states = [each["state"] for each in checkpoint.get("optimizer_states", ())]
    checkpoint["state_dict"] = {
        name: divided_like(tensor, weights[name]) if name in weights else tensor
        for name, tensor in checkpoint["state_dict"].items()
    }
    for of_parameters, state in zip(parameters, states, strict=True):
        for index, values in state.items():
            for name, value in values.items():
                if isinstance(value, Tensor):
                    values[name] = divided_like(value, of_parameters[index])
    manifest = checkpoint.pop(MANIFEST, None)
    if manifest is not None:
        layouts = _layouts(weights, parameters)
        tensors = {
            key: _empty(shape, dtype, layouts(key))
            for key, (shape, dtype) in manifest["tensors"].items()
            if optimizers or not key.startswith("optimizer.")
        }
        read_shards(tensors, shards_folder(path, manifest), manifest)
        put_back(checkpoint, tensors)
    return checkpoint


def load_weights(module: nn.Module, path: Path) -> int:
    """Replace a module's weights, sharded or not, by those of a checkpoint; returns its optimizer step. Every rank must call
    it."""
    content = read_divided(path, module) if is_sharded(module) else read_checkpoint(path)
    module.load_state_dict(content["state_dict"])
    return int(content["global_step"])


def _layouts(weights: Mapping[str, Tensor], parameters: Sequence[Sequence[Tensor]]) -> Any:
    """key of a shard -> the weight that it belongs to (None: the module has none of this name)."""

    def layout(key: str) -> Tensor | None:
        if key.startswith("state_dict."):
            return weights.get(key.removeprefix("state_dict."))
        _, number, index, _ = key.split(".", 3)
        return parameters[int(number)][int(index)]

    return layout


def _empty(shape: Sequence[int], dtype: torch.dtype, like: Tensor | None) -> Tensor:
    """Memory for a tensor, divided as `like` where it has its shape, else whole."""
    if isinstance(like, DTensor) and list(like.shape) == list(shape):
        return torch.empty_like(like, dtype=dtype, requires_grad=False)
    return torch.empty(shape, dtype=dtype)
