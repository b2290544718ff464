"""Columns of a raw table, read with errors that name the file, the line (or row) and the column."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Literal, TypeVar

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Int
from numpy import ndarray

from protoformer.data.examples.labels import column_of_classes, column_of_numbers, with_class_names
from protoformer.data.examples.values import as_text, python_values, without_json
from protoformer.data.sources.rows import listed
from protoformer.data.sources.source import DatasetRef, RawTable, Role
from protoformer.errors import DataError

OnBadRow = Literal["error", "skip"]
Item = TypeVar("Item")
NESTED = "a list or an object, where a single value is expected"


def select(items: Sequence[Item], rows: Int[ndarray, "kept"]) -> list[Item]:
    """The items of these rows."""
    return list(items) if len(rows) == len(items) else [items[row] for row in rows]


def check_columns(raw: RawTable, needed: Sequence[str], reader: DatasetRef) -> None:
    """Raises DataError where a column is missing or stands twice, or there are no rows. `reader` says which keys name them."""
    names = raw.table.column_names
    if missing := [name for name in needed if name not in names]:
        described = ", ".join(f"{name!r}{_keys_of(name, reader)}" for name in missing)
        raise DataError(f"{raw.origin}: no column {described}; it has {listed(names)}")
    if doubled := [name for name in needed if names.count(name) > 1]:
        raise DataError(f"{raw.origin}: column {doubled[0]!r} stands twice in {listed(names)}")
    if raw.table.num_rows == 0:
        raise DataError(f"{raw.origin}: zero rows")


def _keys_of(column: str, reader: DatasetRef) -> str:
    """` (task.rows.KEY)`: the key, of several the plainest, by which a reader knows a column."""
    keys = [key for key, value in vars(reader).items() if value == column or (type(value) is list and column in value)]
    return f" (task.rows.{min(keys, key=len)})" if keys else ""


class BadRows:
    """The unusable rows of a table: an error, or collected to be skipped and counted by reason.

    `skippable=False`: they are an error that no setting avoids, and the message advises none. Rows that the file's reader could
    not read are the first.
    """

    def __init__(self, raw: RawTable, on_bad_row: OnBadRow, *, skippable: bool = True) -> None:
        self.raw, self.on_bad_row, self.skippable = raw, on_bad_row, skippable
        self.mask = np.zeros(raw.table.num_rows, dtype=bool)
        self.reasons: Counter[str] = Counter()
        if raw.broken:
            broken = np.zeros_like(self.mask)
            broken[list(raw.broken)] = True
            row, problem = min(raw.broken.items())
            self._add(broken, "unreadable", f"{raw.location(row)}: {problem}")

    def add(self, column: str, problem: str, bad: Bool[ndarray, "rows"], *, reason: str | None = None) -> None:
        """Raises DataError for the first bad row, unless bad rows are skipped. `reason` is how these are counted (None: by the
        problem and the column)."""
        rows = np.flatnonzero(bad & ~self.mask)
        if len(rows) == 0:
            return
        shown = _shown(self.raw, column, int(rows[0]))
        self._add(bad, reason or f"{problem} ({column})", f"{self.where(int(rows[0]), column)}: {problem}{shown}")

    def where(self, row: int, column: str) -> str:
        """A row and a column for a message."""
        return f"{self.raw.location(row)}, column {column!r}"

    def _add(self, bad: Bool[ndarray, "rows"], reason: str, message: str) -> None:
        count = int((bad & ~self.mask).sum())
        if self.skippable and self.on_bad_row == "skip":
            self.reasons[reason] += count
            self.mask |= bad
            return
        more = f" ({count} rows in all)" if count > 1 else ""
        advice = "; task.data.on_bad_row=skip leaves such rows out" if self.skippable else ""
        raise DataError(f"{message}{more}{advice}")

    def usable(self) -> Int[ndarray, "kept"]:
        """Numbers of the other rows. Raises DataError where there are none."""
        rows = np.flatnonzero(~self.mask)
        if len(rows) == 0:
            why = f" ({counted(self.reasons)})" if self.reasons else ""
            raise DataError(f"{self.raw.origin}: every one of its {len(self.mask)} rows is unusable{why}")
        return rows


def counted(reasons: Mapping[str, int]) -> str:
    """`3 null (label), 1 unreadable`, the most frequent first."""
    return ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items(), key=lambda item: -item[1]))


def _shown(raw: RawTable, column: str, row: int) -> str:
    """A value for a message, shortened."""
    try:
        value = raw.table.column(column)[row].as_py()
    except (KeyError, UnicodeDecodeError, ValueError, OverflowError):  # KeyError: a field that is no column
        return ""
    text = repr(value)
    return "" if value in (None, "") else f" ({text})" if len(text) < 80 else f" ({text[:76]}...)"


class ColumnReader:
    """Text columns and the label column of a table. Unusable rows go to `bad_rows`.

    A test split may come without labels.
    """

    def __init__(
        self, raw: RawTable, role: Role, on_bad_row: OnBadRow, texts: Sequence[str], label: str, reader: DatasetRef
    ) -> None:
        check_columns(raw, texts if role == "test" else [*texts, label], reader)
        self.raw, self.role, self.label = raw, role, label
        self.bad_rows = BadRows(raw, on_bad_row)

    def usable_rows(self) -> Int[ndarray, "kept"]:
        """Numbers of the rows to keep: of a test split all, since servers count them."""
        if self.role == "test":
            return np.arange(len(self.bad_rows.mask))
        return self.bad_rows.usable()

    @property
    def skipped(self) -> Mapping[str, int]:
        """The rows left out, by reason."""
        return {} if self.role == "test" else self.bad_rows.reasons

    def text(self, name: str) -> list[str]:
        """A column of texts; null and empty ones are bad."""
        return text_column(self.raw, name, self.bad_rows)

    def nested(self, name: str) -> list[object]:
        """A column of lists or structs as Python values."""
        return python_values(self.raw.table.column(name), self.raw.table.schema.field(name))

    def label_column(self, names: Sequence[str] | None) -> pa.ChunkedArray:
        """The column of the labels. Its numbers are words where the file says of which words they are the numbers."""
        schema = self.raw.table.schema
        column, nested = without_json(self.raw.table.column(self.label), schema.field(self.label))
        self.bad_rows.add(self.label, NESTED, nested)
        return column if names is None else with_class_names(column, schema, self.label, names)

    def labels(self, names: Sequence[str] | None, first: int = 0) -> ndarray:
        """Labels as class indices from 0 (-1: hidden); without `names` as floats.

        In the file classes are names, or numbers from `first` on.
        """
        if self.label not in self.raw.table.column_names:
            return np.full(len(self.bad_rows.mask), -1, dtype=np.float32 if names is None else np.int64)
        column = self.label_column(names)
        labels = column_of_numbers(column) if names is None else column_of_classes(column, names, first)
        if labels is None:
            raise DataError(f"{self.raw.origin}: column {self.label!r} holds {column.type}, not a label")
        hidden = (labels.missing | labels.hidden) if self.role == "test" else np.zeros(len(labels.values), dtype=bool)
        self.bad_rows.add(self.label, "null", labels.missing & ~hidden)
        for problem, bad in labels.problems.items():
            self.bad_rows.add(self.label, problem, bad & ~hidden, reason="an unknown label")
        values = np.where(hidden | self.bad_rows.mask, -1, labels.values)
        return values.astype(np.float32 if names is None else np.int64)


def text_column(raw: RawTable, name: str, bad_rows: BadRows) -> list[str]:
    """A column as texts; null, empty and invalid ones are bad."""
    texts = nullable_texts(raw, name, bad_rows)
    bad_rows.add(name, "null", np.asarray([text is None for text in texts]))
    bad_rows.add(name, "empty text", np.asarray([text is not None and not text.strip() for text in texts]))
    return [text or "" for text in texts]


def nullable_texts(raw: RawTable, name: str, bad_rows: BadRows) -> list[str | None]:
    """A column as texts; what is no valid UTF-8 is bad. Raises DataError for a column of lists or structs."""
    column, nested = without_json(raw.table.column(name), raw.table.schema.field(name))
    bad_rows.add(name, NESTED, nested)
    converted = as_text(column)
    if converted is None:
        raise DataError(f"{raw.origin}: column {name!r} holds {column.type}, not text")
    text, invalid = converted
    bad_rows.add(name, "not UTF-8", invalid)
    return ["" if is_invalid else value for value, is_invalid in zip(text.to_pylist(), invalid, strict=True)]
