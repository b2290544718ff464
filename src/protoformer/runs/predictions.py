"""Predictions on disk: one line an example, in order of row number, and what further files a kind of task has."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from protoformer.atomic import write_text


def write(folder: Path, name: str, rows: Iterable[Mapping[str, Any]], files: Mapping[str, Any]) -> None:
    """`<name>.jsonl` and, in a folder `<name>`, further files; each whole or not at all."""
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
    if lines:
        write_text(folder / f"{name}.jsonl", "".join(lines))
    for file, content in files.items():
        write_text(folder / name / file, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
