"""Rows of a text file as Arrow columns, with the line of each and what is wrong with those that cannot be read.

A row that cannot be read is a row of nulls, so that the others keep their numbers; `broken` says why.
"""

import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from protoformer.data.sources.text_files import CHARS_PER_BATCH, ROWS_PER_BATCH, problem_of
from protoformer.errors import DataError

JSON_COLUMN = {b"holds": b"json"}  # metadata of a column of JSON text: values that no one Arrow type holds
NO_COLUMN = ""  # holds the place of rows that are all broken
NOT_ONE_TYPE = (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError)


class FileRow(NamedTuple):
    """Values by column, the number of the row's first line, and what is wrong with it."""

    values: dict[str, Any]
    line: int | None = None
    problem: str | None = None


@dataclass(frozen=True)
class RowBatch:
    """Rows as a record batch; `lines` are the numbers of their first lines, where the file has lines."""

    batch: pa.RecordBatch
    lines: list[int] | None = None
    broken: dict[int, str] = field(default_factory=dict)

    def column(self, name: str) -> pa.ChunkedArray:
        """A column by its name."""
        return pa.chunked_array([self.batch.column(name)])


def position(index: int, lines: Sequence[int] | None = None, first: int = 0) -> str:
    """Where row `index` stands, for messages: `line 7` in a file with lines (those of `index`), else `row 7` (`first` rows
    stand before those that are counted). Both count from 1, as editors do; the header of a CSV is line 1."""
    return f"line {lines[index]}" if lines else f"row {first + index + 1}"


def listed(names: Sequence[str]) -> str:
    """Names of columns for a message; those with spaces around them, or of no letters, between quotes."""
    return ", ".join(name if name == name.strip() and name else repr(name) for name in names)


def check_names(names: Sequence[str], path: Path) -> None:
    """Raises DataError for a column name that stands twice."""
    if doubled := [name for name, count in Counter(names).items() if count > 1]:
        raise DataError(f"{path}: column {doubled[0]!r} stands twice in {listed(names)}; rename or remove one")


def selected_columns(columns: Sequence[str] | None, available: Sequence[str], origin: str) -> list[str]:
    """The columns to read (None: all). Raises DataError where one is missing."""
    missing = [name for name in columns or () if name not in available]
    if missing:
        raise DataError(f"{origin}: no column {', '.join(map(repr, missing))}; it has {listed(available)}")
    return list(columns or available)


def batches(rows: Iterable[FileRow], names: Sequence[str] | None) -> Iterator[RowBatch]:
    """Rows, some thousand characters at a time; `names` are the columns (None: those that the rows of a batch have)."""
    chunk: list[FileRow] = []
    size = 0
    for row in rows:
        chunk.append(row)
        size += sum(len(value) for value in row.values.values() if isinstance(value, str))
        if len(chunk) == ROWS_PER_BATCH or size > CHARS_PER_BATCH:
            yield _batch(chunk, names)
            chunk, size = [], 0
    if chunk:
        yield _batch(chunk, names)


def _batch(rows: Sequence[FileRow], names: Sequence[str] | None) -> RowBatch:
    broken = {index: row.problem for index, row in enumerate(rows) if row.problem}
    try:
        batch = _record_batch([row.values for row in rows], names)
    except UnicodeEncodeError:
        for index, row in enumerate(rows):
            if problem := next(filter(None, (_invalid(name, value) for name, value in row.values.items())), None):
                broken[index] = problem
        batch = _record_batch([{} if index in broken else row.values for index, row in enumerate(rows)], names)
    lines = [row.line for row in rows if row.line is not None]
    return RowBatch(batch, lines if len(lines) == len(rows) else None, broken)


def _record_batch(values: Sequence[dict[str, object]], names: Sequence[str] | None) -> pa.RecordBatch:
    names = list(dict.fromkeys(name for row in values for name in row)) if names is None else names
    fields: list[pa.Field] = []
    arrays: list[pa.Array] = []
    for name in names or [NO_COLUMN]:
        array, is_json = column([row.get(name) for row in values])
        fields.append(pa.field(name, array.type, metadata=JSON_COLUMN if is_json else None))
        arrays.append(array)
    return pa.record_batch(arrays, schema=pa.schema(fields))


def column(values: Sequence[object]) -> tuple[pa.Array, bool]:
    """Python values as one column. Numbers beside texts become texts; what no Arrow type holds becomes JSON text (True)."""
    try:
        return pa.array(values), False
    except NOT_ONE_TYPE:
        if any(isinstance(value, dict | list) for value in values):
            return pa.array([None if value is None else as_json(value) for value in values], pa.string()), True
        return pa.array([scalar_text(value) for value in values], pa.string()), False


def scalar_text(value: object) -> str | None:
    """A value as text: numbers and truth values as JSON writes them; NaN, which stands for a missing one, is None."""
    if isinstance(value, float) and math.isnan(value):
        return None
    return value if value is None or isinstance(value, str) else as_json(value)


def as_json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


def _invalid(name: str, value: object) -> str | None:
    """What makes a value no valid Unicode, with the name of its column."""
    problem = problem_of(name) or problem_of(value if isinstance(value, str) else as_json(value))
    return None if problem is None else f"column {name!r}: {problem}"


def joined(tables: Sequence[pa.Table]) -> pa.Table:
    """Tables as one. A column that is missing somewhere is null there; columns of several types become text, or JSON text."""
    names = list(dict.fromkeys(name for table in tables for name in table.column_names))
    if len(names) > 1 and NO_COLUMN in names:
        names.remove(NO_COLUMN)
    if all(table.schema.equals(tables[0].schema, check_metadata=True) for table in tables):
        return pa.concat_tables(tables)
    columns: list[pa.ChunkedArray] = []
    fields: list[pa.Field] = []
    for name in names:
        parts = [table.select([name]) if name in table.column_names else _nulls(table, name) for table in tables]
        field_, chunked = _joined_column(name, parts)
        fields.append(field_)
        columns.append(chunked)
    metadata = tables[0].schema.metadata
    same = all(table.schema.metadata == metadata for table in tables)
    return pa.table(columns, schema=pa.schema(fields, metadata if same else None))


def _nulls(table: pa.Table, name: str) -> pa.Table:
    return pa.table({name: pa.nulls(table.num_rows)})


def _joined_column(name: str, parts: Sequence[pa.Table]) -> tuple[pa.Field, pa.ChunkedArray]:
    is_json = any(part.schema.field(name).metadata == JSON_COLUMN for part in parts)
    if not is_json:
        plain = [part.replace_schema_metadata(None) for part in parts]
        try:
            whole = pa.concat_tables(plain, promote_options="permissive")
            return whole.schema.field(name), whole.column(name)
        except NOT_ONE_TYPE:
            pass
    chunks: list[pa.Array] = []
    nested = is_json or any(pa.types.is_nested(part.schema.field(name).type) for part in parts)
    for part in parts:
        values = part.column(name).to_pylist()
        if nested and part.schema.field(name).metadata != JSON_COLUMN:
            values = [None if value is None else as_json(value) for value in values]
        chunks.append(pa.array([scalar_text(value) for value in values], pa.string()))
    return pa.field(name, pa.string(), metadata=JSON_COLUMN if nested else None), pa.chunked_array(chunks)
