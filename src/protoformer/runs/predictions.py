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


CLUSTER, SUMS, RATIOS = "cluster", "sums", "ratios"  # entries of example scores that are no metric
Ratios = Mapping[str, tuple[Sequence[float], Sequence[float]]]  # by metric its summands above and below


def write_scores(
    folder: Path,
    name: str,
    ids: Sequence[int],
    scores: Mapping[str, Sequence[float]],
    *,
    sums: Mapping[str, Sequence[float]] | None = None,
    ratios: Ratios | None = None,
    passages: Sequence[str] | None = None,
) -> None:
    """`<name>.jsonl`: the id of each example with its score by each metric that is a mean over examples, and under `sums` what
    perplexity and correlations are made of, under `ratios` what an example adds to both sums of a metric; no file where there
    are none. `passages` are indexed by id; where examples share one, `cluster` is its number."""
    if not scores and not sums and not ratios:
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
    if ratios:
        columns = [list(zip(*pair, strict=True)) for pair in ratios.values()]
        for line, pairs in zip(lines, zip(*columns, strict=True), strict=True):
            line[RATIOS] = dict(zip(ratios, pairs, strict=True))
    write_lines(folder / f"{name}.jsonl", lines)


def write_lines(file: Path, rows: Iterable[Mapping[str, object]]) -> None:
    """One JSON line a row; no file where there are none."""
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
    if lines:
        write_text(file, "".join(lines))
