"""A run is named by what can change its result.

Every resolved key counts, except schema.NEUTRAL; keys that equal their target's own default are dropped, so that a new
key with a default renames no old run. Local folders count by their content, not by where they lie.
"""

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from glob import glob
from pathlib import Path
from typing import Any, get_args, get_type_hints

from protoformer.config import schema
from protoformer.config.signatures import signature
from protoformer.runs.digests import file_digest, files_digest, folder_digest


def run_id(config: Mapping[str, Any]) -> str:
    """A readable beginning and eight digits of a hash, such as `seed42-lr5e-05-bs32-1f0c3a9e`."""
    named = essence(config)
    text = json.dumps(named, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    recipe = config["recipe"]
    prefix = f"seed{config['seed']}-lr{recipe['lr']:g}-bs{recipe['batch_size']}"
    return f"{re.sub(r'[^A-Za-z0-9.-]', '', prefix)}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def essence(config: Mapping[str, Any]) -> dict[str, Any]:
    """What of a config can change a result, in one canonical form."""
    kept = _without_neutral(config)
    named = _essential(kept, schema.Run)
    assert isinstance(named, dict)
    named["init_from"] = _origin(str(config["init_from"]))
    root, files = config["source"].get("root"), config["source"].get("files")
    if root is not None:
        rows = config["task"]["rows"]
        held = [_data(Path(root), part) for part in rows["parts"]] if rows.get("parts") else _data(Path(root), rows)
        named["source"] = {**named["source"], "root": held}
    if files is not None:
        patterns = [files] if isinstance(files, str) else files
        found = {Path(path) for pattern in patterns for path in glob(os.path.expanduser(pattern), recursive=True)}
        held = sorted(f"{path.name} {file_digest(path)}" for path in found if path.is_file())
        named["source"] = {**named["source"], "files": held}
    named["run"] = {key: config["choices"].get(key) for key in ("model", "task")}
    return named


def _without_neutral(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    return {
        key: _without_neutral(value, f"{prefix}{key}.") if isinstance(value, Mapping) else value
        for key, value in config.items()
        if f"{prefix}{key}" not in schema.NEUTRAL
    }


def _essential(value: Any, kind: Any = None) -> Any:
    """Defaults dropped: those of the `_target_`, and those of the schema's dataclass for this node."""
    if isinstance(value, Mapping):
        defaults: dict[str, Any] = {}
        kinds: dict[str, Any] = {}
        if is_dataclass(kind) and isinstance(kind, type):
            kinds = get_type_hints(kind)
            defaults |= {f.name: f.default for f in fields(kind) if f.default is not MISSING}
        if "_target_" in value:
            parameters = signature(value["_target_"]).parameters
            defaults |= {name: p.default for name, p in parameters.items() if not p.required}
        kept = {key: _essential(inner, kinds.get(key)) for key, inner in value.items()}
        return {key: inner for key, inner in kept.items() if key not in defaults or inner != _essential(defaults[key])}
    if isinstance(value, list | tuple):
        return [_essential(item) for item in value]
    if isinstance(value, float) and value.is_integer() and not {int, float} <= set(get_args(kind)):
        return int(value)  # where both mean something, 1 batch is not 1.0 of all
    return value


def _origin(init_from: str) -> str:
    """A folder by its content, anything else by its name."""
    folder = Path(init_from).expanduser()
    if (folder / "checkpoints").is_dir():
        return f"run:{folder_digest(folder / 'checkpoints')}"
    return f"folder:{folder_digest(folder)}" if folder.is_dir() else init_from


def _data(root: Path, rows: Mapping[str, Any]) -> str:
    """The data set's own files, by their content, or parallel text's, a file a language; a folder that is not there is named
    as such (and refused later)."""
    root = root.expanduser()
    folder = root / str(rows.get("dataset", "")) / str(rows.get("subset") or "")
    if folder.is_dir():
        return files_digest((path for path in folder.rglob("*") if path.is_file()), folder)
    languages = {f".{rows[side]}" for side in ("source", "target") if rows.get(side)}
    texts = [path for path in root.iterdir() if path.suffix in languages and path.is_file()] if root.is_dir() else []
    return files_digest(texts, root) if texts else f"absent:{folder.name}"
