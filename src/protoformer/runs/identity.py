"""Identity of a run: a name from all that can change its result.

Every resolved key of the config counts, except schema.IGNORED_IN_RUN_ID, and recipe and seed where nothing is trained. Keys
that equal their target's own default are dropped, so that a new key with a default renames no old run. Local folders count by
their content, not by their path.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any, get_args, get_type_hints

from protoformer.config import schema
from protoformer.config.annotations.signatures import signature, source_file
from protoformer.config.validate import OWN_DATA
from protoformer.runs.digests import (
    checkpoints_digest,
    file_digest,
    files_digest,
    folder_digest,
    matching_files,
    outside_digest,
)
from protoformer.runs.own_files import own_files

NODES_OF_DEFAULTS = ("early_stopping",)  # nodes that name no run while all their keys have their defaults


def run_id(config: Mapping[str, Any]) -> str:
    """A readable prefix and eight digits of a hash, such as `seed42-lr5e-05-bs32-1f0c3a9e`, or `shots8-1f0c3a9e` where nothing
    is trained."""
    identity = identity_config(config)
    text = json.dumps(identity, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return f"{re.sub(r'[^A-Za-z0-9.-]', '', _prefix(config))}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def _prefix(config: Mapping[str, Any]) -> str:
    recipe, shots = config["recipe"], config["task"].get("shots")
    if _is_scored_alone(config):
        return "tested" if shots is None else f"shots{shots}"
    return f"seed{config['seed']}-lr{recipe['lr']:g}-bs{recipe['batch_size']}"


def _is_scored_alone(config: Mapping[str, Any]) -> bool:
    """Whether nothing is trained and no head is drawn: neither the recipe nor the seed can change a result."""
    return not config["task"]["splits"].get("train") and not config["task"]["needs_head"]


def identity_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a config that can change a result, in one canonical form."""
    kept = _without_ignored(config)
    if _is_scored_alone(config):
        kept = {key: value for key, value in kept.items() if key not in ("recipe", "seed")}
    identity = _without_defaults(kept, schema.Run)
    assert isinstance(identity, dict)
    identity["init_from"] = _init_identity(str(config["init_from"]))
    root, files = config["source"].get("root"), config["source"].get("files")
    if root is not None:
        rows = config["task"]["rows"]
        digests = (
            [_data_digest(Path(root), part, {}) for part in rows["parts"]]
            if rows.get("parts")
            else _data_digest(Path(root), rows, config["task"]["splits"])
        )
        identity["source"] = {**identity["source"], "root": digests}
    if files is not None:
        identity["source"] = {**identity["source"], "files": _file_digests(files)}
    if (validation := config["source"].get("validation")) is not None:
        identity["source"] = {**identity["source"], "validation": _file_digests(validation)}
    if vocabulary := _content(config["model"].get("tokenizer")):
        identity["model"] = {**identity["model"], "tokenizer": vocabulary}
    if callbacks := config["trainer"].get("callbacks"):
        code = outside_digest(source_file(callback["_target_"]) for callback in callbacks)
        identity["trainer"]["callbacks"] = [*identity["trainer"]["callbacks"], code]
    identity["run"] = {key: config["choices"].get(key) for key in ("model", "task")}
    return identity


def _without_ignored(config: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    return {
        key: _without_ignored(value, f"{prefix}{key}.") if isinstance(value, Mapping) else value
        for key, value in config.items()
        if f"{prefix}{key}" not in schema.IGNORED_IN_RUN_ID
    }


def _without_defaults(value: object, kind: object = None) -> Any:
    """A config without defaults: those of the `_target_`, and those of the schema's dataclass for this node."""
    if isinstance(value, Mapping):
        defaults: dict[str, object] = {}
        kinds: dict[str, Any] = {}
        if is_dataclass(kind) and isinstance(kind, type):
            kinds = get_type_hints(kind)
            defaults |= {f.name: f.default for f in fields(kind) if f.default is not MISSING}
        if "_target_" in value:
            parameters = signature(value["_target_"]).parameters
            defaults |= {name: p.default for name, p in parameters.items() if not p.required}
        kept = {key: _without_defaults(inner, kinds.get(key)) for key, inner in value.items()}
        return {
            key: inner
            for key, inner in kept.items()
            if not (key in defaults and inner == _without_defaults(defaults[key]))
            and not (inner == {} and is_dataclass(kinds.get(key)) and key in NODES_OF_DEFAULTS)
        }
    if isinstance(value, list | tuple):
        return [_without_defaults(item) for item in value]
    if isinstance(value, float) and value.is_integer() and not {int, float} <= set(get_args(kind)):
        return int(value)  # where both mean something, 1 batch is not 1.0 of all
    return value


def _init_identity(init_from: str) -> str:
    """Initial weights: a folder by its content, anything else by its name."""
    folder = Path(init_from).expanduser()
    if (folder / "checkpoints").is_dir():
        return f"run:{checkpoints_digest(folder / 'checkpoints')}"
    return f"folder:{folder_digest(folder)}" if folder.is_dir() else init_from


def _file_digests(patterns: str | Sequence[str]) -> list[str]:
    """Name and digest of each file."""
    paths = {
        path for pattern in ([patterns] if isinstance(patterns, str) else patterns) for path in matching_files(pattern)
    }
    return sorted(f"{path.name} {file_digest(path)}" for path in paths)


def _content(tokenizer: str | None) -> str | None:
    """Digest of a vocabulary's file or folder; None for a name on the hub."""
    path = Path(tokenizer).expanduser() if tokenizer else None
    if path is None or not path.exists():
        return None
    return f"file:{file_digest(path) if path.is_file() else folder_digest(path)}"


def _data_digest(root: Path, rows: Mapping[str, object], splits: Mapping[str, object]) -> str:
    """Digest of a data set's files: its folder, or the files of parallel text, one a language; of a user's own folder those of
    its splits, since anything else may lie there too.

    A folder that does not exist is named as absent; it is refused when the data are read.
    """
    root = root.expanduser()
    if rows.get("dataset") == OWN_DATA:
        paths = own_files(root, splits)
        return files_digest(paths, root.parent if root.is_file() else root) if paths else f"absent:{root.name}"
    folder = root / str(rows.get("dataset", "")) / str(rows.get("subset") or "")
    if folder.is_dir():
        return files_digest((path for path in folder.rglob("*") if path.is_file()), folder)
    languages = {str(rows[side]) for side in ("source", "target") if rows.get(side)}
    here = root.iterdir() if root.is_dir() else ()
    texts = [path for path in here if path.is_file() and languages & set(path.name.split(".")[1:])]
    return files_digest(texts, root) if texts else f"absent:{folder.name}"
