"""Reading the files of a published folder (`config.json`, the tensors in one file or in shards, old ones included), and loading
state dicts into a model, with every mismatch named.

Pickles are read by torch's weights-only reader alone. Every complaint is one WeightsError that names the file.
"""

import logging
import math
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from protoformer.errors import WeightsError
from protoformer.json_files import JsonObject, read_object, read_weight_map, shown

log = logging.getLogger(__name__)
StateDict = dict[str, Tensor]
HfConfig = dict[str, Any]  # a Hugging Face `config.json`
SAFETENSORS, PICKLE = "model.safetensors", "pytorch_model.bin"
INDEX = ".index.json"  # behind either name: the table of its shards
FOREIGN = ("*.h5", "*.msgpack", "*.gguf", "*.onnx", "*.ckpt", "*.ckpt.index", "*.pt", "*.pth", "*.safetensors", "*.bin")
OF_A_TRAINING_LOOP = ("state_dict", "model_state_dict", "model", "module")  # keys of the model's tensors
OWN_PARTS = ("embeddings", "encoder", "decoder", "h", "cls")  # a file of one of these alone is no wrapped model
FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


def read_config(folder: Path) -> JsonObject:
    """`config.json` of a published folder. Raises WeightsError where there is none."""
    path = folder / "config.json"
    if not path.exists():
        raise WeightsError(f"{folder}: no config.json, so this is not a Hugging Face model folder")
    return read_object(path)


def read_state(folder: Path) -> StateDict:
    """All tensors of a folder: `model.safetensors`, else `pytorch_model.bin`, each in one file or in shards with an index.

    Names lose the modules around the model that all of them begin with (`net.wrapped.`). Raises WeightsError where there is
    none of these files, one is corrupt, or a shard or a tensor of the index is missing.
    """
    return _without_wrappers(_read_files(folder))


def _read_files(folder: Path) -> StateDict:
    for name, read in ((SAFETENSORS, _read_safetensors), (PICKLE, _read_pickle)):
        if (folder / name).exists():
            return read(folder / name)
        if (folder / (name + INDEX)).exists():
            return _read_shards(folder / (name + INDEX), read)
        if shards := _all_shards(folder, name):
            log.info("%s: %d shards without their index", folder, len(shards))
            return {tensor: value for shard in shards for tensor, value in read(shard).items()}
    others = sorted({path.name for pattern in FOREIGN for path in folder.glob(pattern)})
    hint = f"; {', '.join(others[:4])} is there, which is not read" if others else ""
    raise WeightsError(f"{folder}: no {SAFETENSORS} and no {PICKLE} (or shards with their index){hint}")


def _without_wrappers(state: StateDict) -> StateDict:
    names = list(state)
    while len(names) > 1 and (first := names[0].partition(".")[0]) not in OWN_PARTS:
        if not all(name.startswith(f"{first}.") for name in names):
            break
        names = [name.removeprefix(f"{first}.") for name in names]
    return dict(zip(names, state.values(), strict=True))


def _all_shards(folder: Path, name: str) -> list[Path]:
    """The shards of a file (`model-00001-of-00002.safetensors`), where all of one set are there."""
    stem, _, suffix = name.rpartition(".")
    shards = sorted(folder.glob(f"{stem}-*-of-*.{suffix}"))
    expected = [f"{stem}-{number:05d}-of-{len(shards):05d}.{suffix}" for number in range(1, len(shards) + 1)]
    return shards if [path.name for path in shards] == expected else []


def _read_shards(index: Path, read: Callable[[Path], StateDict]) -> StateDict:
    weight_map, state = read_weight_map(index), StateDict()
    for name in sorted(set(weight_map.values())):
        path = index.with_name(name)
        if not path.is_file():
            raise WeightsError(f"{path}: no such file; {index.name} names it, so a shard is missing: fetch it again")
        shard = read(path)
        absent = [tensor for tensor, file in weight_map.items() if file == name and tensor not in shard]
        if absent:
            raise WeightsError(f"{path}: lacks {absent[0]}, which {index.name} says it holds")
        state |= shard
    return state


def _read_safetensors(path: Path) -> StateDict:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError, LookupError, RuntimeError, TypeError) as error:
        raise WeightsError(f"{path}: corrupt or truncated ({error}); fetch it again") from None


def _read_pickle(path: Path) -> StateDict:
    state = read_pickle(path)
    if isinstance(state, Mapping):  # of a training loop: the model beside its optimizer
        state = next((state[key] for key in OF_A_TRAINING_LOOP if isinstance(state.get(key), Mapping)), state)
    if not isinstance(state, Mapping):
        raise WeightsError(f"{path}: holds {type(state).__name__}; expected tensors by name")
    if wrong := next((name for name, value in state.items() if not isinstance(value, Tensor)), None):
        raise WeightsError(f"{path}: {shown(wrong)} is {type(state[wrong]).__name__}; expected tensors by name")
    return {str(name): tensor for name, tensor in state.items()}


def read_pickle(path: Path, *, mmap: bool = False) -> Any:
    """A torch file of tensors and plain containers, nothing else; with `mmap` a tensor is read when it is first used.

    Raises WeightsError for a corrupt file, or one with anything else in it.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except Exception as error:  # whatever the bytes make the reader stumble on
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise WeightsError(f"{path}: corrupt, or holds more than tensors ({reason})") from None


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The whole checkpoint of a run, on the CPU, in one process; a sharded one with its tensors from the folder beside it.

    Raises WeightsError for a corrupt one.
    """
    checkpoint: dict[str, Any] = read_pickle(path)
    if isinstance(checkpoint, dict) and (manifest := checkpoint.pop("sharded_tensors", None)):
        from protoformer.distributed.sharding import files  # imports torch.distributed.checkpoint, which takes a second

        files.put_back(checkpoint, files.read_whole(files.shards_folder(path, manifest), manifest))
    return checkpoint


def pad_embedding_rows(model: nn.Module, state: Mapping[str, Tensor], name: str) -> StateDict:
    """`state`, whose matrix `name` gets the model's own fresh rows at its end where the model has more of them."""
    fresh, loaded = model.state_dict().get(name), state.get(name)
    if (
        fresh is None
        or loaded is None
        or loaded.ndim != 2
        or loaded.shape[1:] != fresh.shape[1:]
        or len(loaded) >= len(fresh)
    ):
        return dict(state)
    return {**state, name: torch.cat([loaded.to(fresh), fresh[len(loaded) :]])}


def load_into(model: nn.Module, state: Mapping[str, Tensor], source: str, optional: Collection[str] = ()) -> None:
    """Copy `state` into `model`; missing, unexpected and mis-shaped tensors, and those with NaN, are one WeightsError that
    names them all.

    `optional` are prefixes (`pooler.`) of parts of which `state` may hold nothing at all: such a part keeps its weights, and
    the log says so. A part of which some tensors are missing is an error. `source` names the weights in messages.
    """
    current = model.state_dict()
    absent = tuple(prefix for prefix in optional if not any(name.startswith(prefix) for name in state))
    kept = {name: tensor for name, tensor in current.items() if name.startswith(absent)}
    missing = sorted(current.keys() - state.keys() - kept.keys())
    unexpected = sorted(state.keys() - current.keys())
    mis_shaped = [
        f"{name} has shape {list(state[name].shape)}, in the model {list(current[name].shape)}"
        for name in sorted(current.keys() & state.keys())
        if state[name].shape != current[name].shape
    ]
    mis_typed = [
        f"{name} is {str(state[name].dtype).removeprefix('torch.')}, the model reads floating-point numbers"
        for name in sorted(current.keys() & state.keys())
        if current[name].is_floating_point() and state[name].dtype not in FLOATS
    ]
    not_finite = [
        name
        for name in sorted(current.keys() & state.keys())
        if state[name].is_floating_point() and not math.isfinite(state[name].sum(dtype=torch.float64).item())
    ]
    problems = [
        f"{title}: {', '.join(names[:8])}{f' and {len(names) - 8} more' if len(names) > 8 else ''}"
        for title, names in (
            ("missing", missing),
            ("unexpected", unexpected),
            ("mis-shaped", mis_shaped),
            ("mis-typed", mis_typed),
            ("not finite (NaN or infinite)", not_finite),
        )
        if names
    ]
    if problems:
        raise WeightsError(f"{source} does not fit the model; {'; '.join(problems)}")
    model.load_state_dict({**kept, **state})
    if kept:
        log.info("%s has no %s: randomly initialised", source, ", ".join(kept))
