"""Reading weight files and loading state dicts into a model, with every mismatch named.

Pickles are read by torch's weights-only reader alone.
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
StateDict = dict[str, Tensor]
HfConfig = dict[str, Any]  # a Hugging Face `config.json`


def read_config(folder: Path) -> HfConfig:
    """`config.json` of a Hugging Face folder. Raises WeightsError where there is none."""
    path = folder / "config.json"
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise WeightsError(f"{folder}: no config.json, so this is not a Hugging Face model folder") from None
    except ValueError as error:
        raise WeightsError(f"{path}: not valid JSON ({error})") from None


def read_state(folder: Path) -> StateDict:
    """All tensors of a folder: `model.safetensors` (or its shards), else the old `pytorch_model.bin`.

    Raises WeightsError where there is neither, or a file is corrupt.
    """
    index = folder / "model.safetensors.index.json"
    if (folder / "model.safetensors").exists():
        return _read_safetensors(folder / "model.safetensors")
    if index.exists():
        shards = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        return {name: tensor for shard in shards for name, tensor in _read_safetensors(folder / shard).items()}
    if (folder / "pytorch_model.bin").exists():
        return read_pickle(folder / "pytorch_model.bin")
    raise WeightsError(f"{folder}: no model.safetensors and no pytorch_model.bin")


def _read_safetensors(path: Path) -> StateDict:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path}: corrupt or truncated ({error}); fetch it again") from None


def read_pickle(path: Path, *, mmap: bool = False) -> Any:
    """A torch file of tensors and plain containers, nothing else; with `mmap` a tensor is read when it is first used.

    Raises WeightsError for a corrupt file, or one with anything else in it.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, LookupError, ValueError, TypeError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise WeightsError(f"{path}: corrupt, or holds more than tensors ({reason})") from None


def pad_embedding_rows(model: nn.Module, state: Mapping[str, Tensor], name: str) -> StateDict:
    """`state`, whose matrix `name` gets the model's own fresh rows at its end where the model has more of them."""
    fresh, loaded = model.state_dict()[name], state.get(name)
    if loaded is None or loaded.ndim != 2 or loaded.shape[1:] != fresh.shape[1:] or len(loaded) >= len(fresh):
        return dict(state)
    return {**state, name: torch.cat([loaded.to(fresh), fresh[len(loaded) :]])}


def load_into(model: nn.Module, state: Mapping[str, Tensor], source: str, optional: Collection[str] = ()) -> None:
    """Copy `state` into `model`; missing, unexpected and mis-shaped tensors are one WeightsError that names them all.

    `optional` are prefixes (`pooler.`) of parts of which `state` may hold nothing at all: such a part keeps its weights, and
    the log says so. A part of which some tensors are missing is an error. `source` names the weights in messages.
    """
    current = model.state_dict()
    absent = tuple(prefix for prefix in optional if not any(name.startswith(prefix) for name in state))
    kept = {name: tensor for name, tensor in current.items() if name.startswith(absent)}
    missing = sorted(current.keys() - state.keys() - kept.keys())
    unexpected = sorted(state.keys() - current.keys())
    mis_shaped = [
        f"{name} is {list(state[name].shape)}, the model wants {list(current[name].shape)}"
        for name in sorted(current.keys() & state.keys())
        if state[name].shape != current[name].shape
    ]
    problems = [
        f"{title}: {', '.join(names[:8])}{f' and {len(names) - 8} more' if len(names) > 8 else ''}"
        for title, names in (("missing", missing), ("unexpected", unexpected), ("mis-shaped", mis_shaped))
        if names
    ]
    if problems:
        raise WeightsError(f"{source} does not fit the model; {'; '.join(problems)}")
    model.load_state_dict({**kept, **state})
    if kept:
        log.info("%s has no %s: randomly initialised", source, ", ".join(kept))
