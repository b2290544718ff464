"""Reading weight files and putting tensors into a model, with every mismatch named.

Nothing is unpickled but through torch's weights-only reader.
"""

import json
import logging
import pickle
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from protoformer.errors import WeightsError

log = logging.getLogger(__name__)
State = dict[str, Tensor]


def read_config(folder: Path) -> dict[str, Any]:
    """`config.json` of a Hugging Face folder."""
    path = folder / "config.json"
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise WeightsError(f"{folder}: no config.json, so this is no Hugging Face model folder") from None
    except ValueError as error:
        raise WeightsError(f"{path}: not valid JSON ({error})") from None


def read_state(folder: Path) -> State:
    """All tensors of a folder: `model.safetensors` (or its shards), else the old `pytorch_model.bin`."""
    index = folder / "model.safetensors.index.json"
    if (folder / "model.safetensors").exists():
        return _read_safetensors(folder / "model.safetensors")
    if index.exists():
        shards = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        return {name: tensor for shard in shards for name, tensor in _read_safetensors(folder / shard).items()}
    if (folder / "pytorch_model.bin").exists():
        return read_pickle(folder / "pytorch_model.bin")
    raise WeightsError(f"{folder}: neither model.safetensors nor pytorch_model.bin is there")


def _read_safetensors(path: Path) -> State:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path}: corrupt or truncated ({error}); fetch it again") from None


def read_pickle(path: Path) -> Any:
    """A torch file that may hold tensors and plain containers, nothing else."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, LookupError, ValueError, TypeError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise WeightsError(f"{path}: corrupt, or holds more than tensors ({first})") from None


def widened(model: nn.Module, state: Mapping[str, Tensor], name: str) -> State:
    """`state` with the model's own fresh rows after those of matrix `name`, where the model has more of them."""
    own, given = model.state_dict()[name], state.get(name)
    if given is None or given.ndim != 2 or given.shape[1:] != own.shape[1:] or len(given) >= len(own):
        return dict(state)
    return {**state, name: torch.cat([given.to(own), own[len(given) :]])}


def put(model: nn.Module, state: Mapping[str, Tensor], origin: str, optional: Collection[str] = ()) -> None:
    """Copy `state` into `model`; missing, unexpected and mis-shaped tensors are one error that names them all.

    `optional` are prefixes of parts (`pooler.`) of which `state` may hold nothing at all: such a part stays as it is, and
    the log says so. A part that is there by half is an error.
    """
    own = model.state_dict()
    fresh = tuple(part for part in optional if not any(name.startswith(part) for name in state))
    kept = {name: tensor for name, tensor in own.items() if name.startswith(fresh)}
    missing = sorted(own.keys() - state.keys() - kept.keys())
    unexpected = sorted(state.keys() - own.keys())
    shapes = [
        f"{name} is {list(state[name].shape)}, the model wants {list(own[name].shape)}"
        for name in sorted(own.keys() & state.keys())
        if state[name].shape != own[name].shape
    ]
    parts = [
        f"{title}: {', '.join(names[:8])}{f' and {len(names) - 8} more' if len(names) > 8 else ''}"
        for title, names in (("missing", missing), ("unexpected", unexpected), ("mis-shaped", shapes))
        if names
    ]
    if parts:
        raise WeightsError(f"{origin} does not fit the model; {'; '.join(parts)}")
    model.load_state_dict({**kept, **state})
    if kept:
        log.info("%s has no %s: the model's own starts fresh", origin, ", ".join(kept))
