"""Reader of run folders: config, result, predictions and the scores of single examples.

Everything that reads a run's files does so by these functions (its log, metrics.jsonl, by `runs.metrics`). A file that cannot
be read is a RunFolderError that names it.
"""

import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from protoformer.errors import RunFolderError, UserError
from protoformer.runs.predictions import CLUSTER, RATIOS, SUMS
from protoformer.runs.upgrade import upgrade_config, upgrade_result

RESULT_KEYS = {"run_id": str, "model": str, "task": str, "metrics": dict}  # what every result.json holds, with its type


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
    """Config and result of a run folder. Raises RunFolderError where either cannot be read, or where there is no config."""
    config = read_config(folder)
    choices = config.get("choices")
    if not (isinstance(choices, dict) and {"model", "task"} <= choices.keys()):
        raise RunFolderError(
            f"{folder / 'config.yaml'} is not the config of a run: it names no model and task under `choices`"
        )
    return Record(folder, config, read_result(folder))


def read_config(folder: Path) -> dict[str, Any]:
    """config.yaml, with today's keys."""
    file = folder / "config.yaml"
    try:
        config = yaml.safe_load(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise RunFolderError(f"{folder} is not a run folder: it has no config.yaml") from error
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise RunFolderError(f"{file} cannot be read: {_one_line(error)}") from error
    if not isinstance(config, dict):
        raise RunFolderError(f"{file} is not the config of a run: it has no keys")
    return upgrade_config({str(key): value for key, value in config.items()})


def read_result(folder: Path) -> dict[str, Any] | None:
    """result.json, with today's keys, or None where the run is not finished. A metric that is null is read as nan."""
    file = folder / "result.json"
    try:
        result = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise RunFolderError(f"{file} cannot be read: {_one_line(error)}") from error
    missing = [
        key for key, kind in RESULT_KEYS.items() if not (isinstance(result, dict) and isinstance(result.get(key), kind))
    ]
    if missing:
        raise RunFolderError(f"{file} is not a run's result: no {', '.join(missing)}")
    metrics = {key: math.nan if value is None else value for key, value in result["metrics"].items()}
    return upgrade_result({**result, "metrics": metrics})


def find_runs(folders: Sequence[str]) -> Iterator[Path]:
    """Every run folder at or below the given ones, each once, in order of path.

    A folder that does not exist, or that holds no run, is a UserError.
    """
    paths: set[Path] = set()
    for top in folders:
        if not Path(top).is_dir():
            raise UserError(f"no folder {top}")
        runs = {Path(path) for path, _, files in os.walk(top) if {"config.yaml", "result.json"} & set(files)}
        if not runs:
            raise UserError(f"no runs in {top}: a run's folder holds config.yaml and, once finished, result.json")
        paths |= {run.resolve() for run in runs}
    yield from sorted(paths)


def read_predictions(file: Path) -> list[dict[str, object]]:
    """The lines of a file of predictions, in order of id."""
    return _read_rows(file, "prediction")


def read_example_scores(folder: Path, split: str) -> list[dict[str, Any]] | None:
    """Of each example of a split its id and its score by each metric that is a mean over examples, in order of id; `cluster`
    numbers what examples share, `sums` are what perplexity and correlations are made of, `ratios`
    what an example adds to the two sums that a metric is the ratio of.

    None where the run wrote none: no metric of its task is such a mean, its references are hidden, or it is a run of a
    version that did not write them.
    """
    file = folder / "example_scores" / f"{split}.jsonl"
    return _read_rows(file) if file.exists() else None


def score_names(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The metrics that example scores have."""
    return [name for name in rows[0] if name not in ("id", CLUSTER, SUMS, RATIOS)] if rows else []


def _read_rows(file: Path, *keys: str) -> list[dict[str, Any]]:
    """The lines of a JSON lines file, which all have an id and these keys, in order of id."""
    rows: list[dict[str, Any]] = []
    with file.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                row = json.loads(line)
                rows.append({**row, "id": int(row["id"]), **{key: row[key] for key in keys}})
            except (ValueError, KeyError, TypeError) as error:
                name = keys[0] if keys else "scores"
                raise RunFolderError(f"{file}, line {number}: no {name} can be read ({_one_line(error)})") from error
    return sorted(rows, key=lambda row: row["id"])


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
