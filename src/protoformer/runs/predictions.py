"""Writer of predictions: one JSON line an example, in order of row number, and what further files a kind of task has."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from protoformer.atomic import write_text


def write(folder: Path, name: str, rows: Iterable[Mapping[str, object]], files: Mapping[str, object]) -> None:
    """`<name>.jsonl`, a line a row, and the further `files` (file name -> JSON content) in a folder `<name>`."""
    _write_lines(folder / f"{name}.jsonl", rows)
    for file, content in files.items():
        write_text(folder / name / file, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def with_texts(rows: Iterable[Mapping[str, Any]], texts: Mapping[str, Sequence[Any]]) -> Iterator[Mapping[str, Any]]:
    """Rows with `texts`: those of the example by column; `texts` holds each column's values by the id of a row."""
    for row in rows:
        yield {**row, "texts": {name: column[row["id"]] for name, column in texts.items()}} if texts else row


def write_scores(
    folder: Path, name: str, rows: Iterable[Mapping[str, object]], scores: Mapping[str, Sequence[float]]
) -> None:
    """`<name>.jsonl`: the id of each row with its score by each metric; no file where there are no scores."""
    if scores:
        columns = zip(*scores.values(), strict=True)
        lines = (
            {"id": row["id"], **dict(zip(scores, values, strict=True))}
            for row, values in zip(rows, columns, strict=True)
        )
        _write_lines(folder / f"{name}.jsonl", lines)


def _write_lines(file: Path, rows: Iterable[Mapping[str, object]]) -> None:
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
    if lines:
        write_text(file, "".join(lines))
