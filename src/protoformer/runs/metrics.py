"""Readers of metrics.jsonl, the log of a run: one JSON object a line, with a step and metrics."""

import json
import math
from pathlib import Path
from typing import Any

from protoformer.errors import RunFolderError

NON_FINITE = ("nan", "inf", "-inf")  # how the log writes what JSON has no number for
Curve = tuple[list[int], list[float]]  # steps in rising order, and the values there


def read_json_lines(file: Path) -> list[Any]:
    """All complete lines; one that a killed run was writing is left out."""
    lines = []
    for text in _lines(file):
        try:
            lines.append(json.loads(text))
        except ValueError:
            continue
    return lines


def read_metrics(file: Path) -> list[dict[str, Any]]:
    """All complete lines, in the order in which they were logged; "nan" and "inf" are read as numbers."""
    return [_numbers(line) for line in read_json_lines(file)]


def read_curves(file: Path) -> dict[str, Curve]:
    """The curve of each metric.

    A run that was continued may have logged a step twice: the later line counts. A last line that was cut off is left out;
    any other line that is no JSON object with a step is a RunFolderError that names it.
    """
    points: dict[str, dict[int, float]] = {}
    lines = _lines(file)
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
            step = int(row["step"])
        except (ValueError, KeyError, TypeError) as error:
            if number == len(lines):
                break
            raise RunFolderError(f"{file}, line {number}: metrics cannot be read ({error})") from error
        for key, value in _numbers(row).items():
            if "/" in key and isinstance(value, int | float):
                points.setdefault(key, {})[step] = float(value)
    return {key: (sorted(curve), [curve[step] for step in sorted(curve)]) for key, curve in points.items()}


def to_json_line(metrics: dict[str, object]) -> str:
    """One line of the log, ended."""
    row = {
        key: str(value) if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in metrics.items()
    }
    return json.dumps(row) + "\n"


def _lines(file: Path) -> list[str]:
    """Lines end at line feeds alone: a text in one may hold other breaks (U+0085, U+2028), which JSON leaves as they are."""
    try:
        return file.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    except UnicodeDecodeError as error:
        raise RunFolderError(f"{file}: not UTF-8 text ({error})") from error


def _numbers(row: dict[str, object]) -> dict[str, Any]:
    return {key: float(value) if value in NON_FINITE else value for key, value in row.items()}
