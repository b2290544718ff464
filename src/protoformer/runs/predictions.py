"""Writer of predictions: one JSON line an example, in order of row number, and what further files a kind of task has."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from protoformer.atomic import write_text


def write(folder: Path, name: str, rows: Iterable[Mapping[str, object]], files: Mapping[str, object]) -> None:
    """`<name>.jsonl`, a line a row, and the further `files` (file name -> JSON content) in a folder `<name>`."""
    write_lines(folder / f"{name}.jsonl", rows)
    for file, content in files.items():
        write_text(folder / name / file, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def with_columns(
    rows: Iterable[Mapping[str, Any]], key: str, columns: Mapping[str, Sequence[Any]]
) -> Iterator[Mapping[str, Any]]:
    """Rows with what `columns` hold of the example, by column, under `key`; columns are indexed by the id of a row."""
    for row in rows:
        yield {**row, key: {name: column[row["id"]] for name, column in columns.items()}} if columns else row


CLUSTER, SUMS = "cluster", "sums"  # entries of example scores that are no metric


def write_scores(
    folder: Path,
    name: str,
    ids: Sequence[int],
    scores: Mapping[str, Sequence[float]],
    *,
    sums: Mapping[str, Sequence[float]] | None = None,
    passages: Sequence[str] | None = None,
) -> None:
    """`<name>.jsonl`: the id of each example with its score by each metric that is a mean over examples, and under `sums` what
    ratios are made of; no file where there are neither. `passages` are indexed by id; where examples share one, `cluster` is
    its number."""
    if not scores and not sums:
        return
    lines: list[dict[str, object]] = [{"id": each} for each in ids]
    for metric, column in scores.items():
        for line, value in zip(lines, column, strict=True):
            line[metric] = value
    if passages is not None and len({passages[each] for each in ids}) < len(ids):
        numbers: dict[str, int] = {}
        for line, each in zip(lines, ids, strict=True):
            line[CLUSTER] = numbers.setdefault(passages[each], len(numbers))
    if sums:
        for line, values in zip(lines, zip(*sums.values(), strict=True), strict=True):
            line[SUMS] = dict(zip(sums, values, strict=True))
    write_lines(folder / f"{name}.jsonl", lines)


def write_lines(file: Path, rows: Iterable[Mapping[str, object]]) -> None:
    """One JSON line a row; no file where there are none."""
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
    if lines:
        write_text(file, "".join(lines))
