"""Predictions on disk: one line an example, in order of row number, and what further files a kind of task has."""

import json
import os
from pathlib import Path

from protoformer.modules.evaluation import Evaluation


def write(folder: Path, name: str, outputs: Evaluation) -> None:
    """`<name>.jsonl` and, in a folder `<name>`, further files; each whole or not at all."""
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in outputs.rows()]
    if lines:
        _write(folder / f"{name}.jsonl", "".join(lines))
    for file, content in outputs.files().items():
        _write(folder / name / file, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    passing = path.with_name(f".{path.name}.part")
    passing.write_text(text, encoding="utf-8")
    os.replace(passing, path)
