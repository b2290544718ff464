"""What runs left in their folders: config, result and predictions, read back for cards, reports and submissions."""

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from protoformer.errors import RunFolderError, UserError

NEEDED = {"run_id": str, "model": str, "task": str, "metrics": dict}  # what every result.json holds, whatever the kind


@dataclass(frozen=True)
class Record:
    """A run folder's config and, once it is finished, its result."""

    folder: Path
    config: dict[str, Any]
    result: dict[str, Any] | None

    @property
    def model(self) -> str:
        return str(self.config["choices"]["model"] if self.result is None else self.result["model"])

    @property
    def task(self) -> str:
        return str(self.config["choices"]["task"] if self.result is None else self.result["task"])


def read(folder: Path) -> Record:
    """A run folder. One without config.yaml, or with a file that cannot be read, is a RunFolderError that names it."""
    file = folder / "config.yaml"
    try:
        config = yaml.safe_load(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise RunFolderError(f"{folder} is no run folder: it holds no config.yaml") from error
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise RunFolderError(f"{file} cannot be read: {_one_line(error)}") from error
    choices = config.get("choices") if isinstance(config, dict) else None
    if not (isinstance(choices, dict) and {"model", "task"} <= choices.keys()):
        raise RunFolderError(f"{file} is not the config of a run: it names no model and task under `choices`")
    assert isinstance(config, dict)
    return Record(folder, {str(key): value for key, value in config.items()}, read_result(folder))


def read_result(folder: Path) -> dict[str, Any] | None:
    """result.json, or None where the run is not finished."""
    file = folder / "result.json"
    try:
        result = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise RunFolderError(f"{file} cannot be read: {_one_line(error)}") from error
    missing = [
        key for key, kind in NEEDED.items() if not (isinstance(result, dict) and isinstance(result.get(key), kind))
    ]
    if missing:
        raise RunFolderError(f"{file} is not a run's result: no {', '.join(missing)}")
    return dict(result)


def walk(folders: Sequence[str]) -> Iterator[Path]:
    """Every run folder at or below the given ones, each once, in order of path.

    A folder that does not exist, or that holds no run, is a UserError.
    """
    found: set[Path] = set()
    for top in folders:
        if not Path(top).is_dir():
            raise UserError(f"no folder {top}")
        runs = {Path(path) for path, _, files in os.walk(top) if {"config.yaml", "result.json"} & set(files)}
        if not runs:
            raise UserError(f"no runs in {top}: a run's folder holds config.yaml and, once finished, result.json")
        found |= {run.resolve() for run in runs}
    yield from sorted(found)


def predictions(file: Path) -> list[dict[str, Any]]:
    """The lines of a predictions file, in order of id; one that cannot be read is a RunFolderError that names it."""
    rows: list[dict[str, Any]] = []
    with file.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                row = json.loads(line)
                rows.append({**row, "id": int(row["id"]), "prediction": row["prediction"]})
            except (ValueError, KeyError, TypeError) as error:
                raise RunFolderError(
                    f"{file}, line {number}: no prediction can be read ({_one_line(error)})"
                ) from error
    return sorted(rows, key=lambda row: row["id"])


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
