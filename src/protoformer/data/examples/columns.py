"""Columns of a raw table, read with errors that name the file, the row and the column."""

from collections.abc import Sequence
from typing import Literal, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Int
from numpy import ndarray

from protoformer.data.sources.source import RawTable, Role
from protoformer.errors import DataError

OnBadRow = Literal["error", "skip"]
Item = TypeVar("Item")


def is_text(arrow_type: pa.DataType) -> bool:
    """Whether a column holds text."""
    return pa.types.is_string(arrow_type) or pa.types.is_large_string(arrow_type)


def select(items: Sequence[Item], rows: Int[ndarray, "kept"]) -> list[Item]:
    """The items of these rows."""
    return list(items) if len(rows) == len(items) else [items[row] for row in rows]


def check_columns(raw: RawTable, needed: Sequence[str]) -> None:
    """Raises DataError where a column is missing, or there are no rows."""
    if missing := [name for name in needed if name not in raw.table.column_names]:
        raise DataError(
            f"{raw.origin}: no column {', '.join(map(repr, missing))}; it has {', '.join(raw.table.column_names)}"
        )
    if raw.table.num_rows == 0:
        raise DataError(f"{raw.origin}: zero rows")


class BadRows:
    """The unusable rows of a table: an error, or collected to be skipped.

    `skippable=False`: they are an error that no setting avoids, and the message advises none.
    """

    def __init__(self, raw: RawTable, on_bad_row: OnBadRow, *, skippable: bool = True) -> None:
        self.raw, self.on_bad_row, self.skippable = raw, on_bad_row, skippable
        self.mask = np.zeros(raw.table.num_rows, dtype=bool)

    def add(self, column: str, problem: str, bad: Bool[ndarray, "rows"], *, skippable: bool = True) -> None:
        """Raises DataError for the first bad row, unless bad rows are skipped."""
        rows = np.flatnonzero(bad)
        if len(rows) == 0:
            return
        skippable = skippable and self.skippable
        if skippable and self.on_bad_row == "skip":
            self.mask |= bad
            return
        value = self.raw.table.column(column)[int(rows[0])].as_py()
        shown = "" if value in (None, "") else f" ({value!r})" if len(repr(value)) < 80 else f" ({repr(value)[:76]}...)"
        more = f" ({len(rows)} rows in all)" if len(rows) > 1 else ""
        advice = "; task.data.on_bad_row=skip leaves such rows out" if skippable else ""
        raise DataError(f"{self.raw.origin}, row {rows[0]}, column {column!r}: {problem}{shown}{more}{advice}")

    def usable(self) -> Int[ndarray, "kept"]:
        """Numbers of the other rows. Raises DataError where there are none."""
        rows = np.flatnonzero(~self.mask)
        if len(rows) == 0:
            raise DataError(f"{self.raw.origin}: every one of its {len(self.mask)} rows is unusable")
        return rows


class ColumnReader:
    """Text columns and the label column of a table. Unusable rows go to `bad_rows`.

    A test split may come without labels.
    """

    def __init__(self, raw: RawTable, role: Role, on_bad_row: OnBadRow, texts: Sequence[str], label: str) -> None:
        check_columns(raw, texts if role == "test" else [*texts, label])
        self.raw, self.role, self.label = raw, role, label
        self.bad_rows = BadRows(raw, on_bad_row)

    def usable_rows(self) -> Int[ndarray, "kept"]:
        """Numbers of the rows to keep: of a test split all, since servers count them."""
        if self.role == "test":
            return np.arange(len(self.bad_rows.mask))
        return self.bad_rows.usable()

    def text(self, name: str) -> list[str]:
        """A column of texts; null and empty ones are bad."""
        column = self.raw.table.column(name)
        if not is_text(column.type):
            raise DataError(f"{self.raw.origin}: column {name!r} holds {column.type}, not text")
        self.bad_rows.add(name, "null", np.asarray(pc.is_null(column)))
        empty = pc.equal(pc.utf8_trim_whitespace(column), "").fill_null(False)
        self.bad_rows.add(name, "empty text", np.asarray(empty))
        return column.fill_null("").to_pylist()

    def text_lists(self, name: str, count: int) -> list[list[str]]:
        """A column of lists of `count` texts each."""
        column = self.raw.table.column(name)
        arrow_type = column.type
        is_list = pa.types.is_list(arrow_type) or pa.types.is_large_list(arrow_type)
        if not (is_list and is_text(arrow_type.value_type)):
            raise DataError(f"{self.raw.origin}: column {name!r} holds {arrow_type}, not lists of texts")
        rows = [list(row or ()) for row in column.to_pylist()]
        wrong_length = np.asarray([len(row) != count for row in rows])
        empty = np.asarray([not all(text and text.strip() for text in row) for row in rows])
        self.bad_rows.add(name, f"not a list of {count} choices", wrong_length)
        self.bad_rows.add(name, "an empty choice", empty & ~wrong_length)
        return [
            [""] * count if wrong else [text or "" for text in row]
            for row, wrong in zip(rows, wrong_length, strict=True)
        ]

    def labels(self, names: Sequence[str] | None, first: int = 0) -> ndarray:
        """Labels as class indices from 0 (-1: hidden); without `names` as floats.

        In the file classes are names, or numbers from `first` on.
        """
        dtype = np.float32 if names is None else np.int64
        if self.label not in self.raw.table.column_names:
            return np.full(len(self.bad_rows.mask), -1, dtype=dtype)
        column = self.raw.table.column(self.label)
        if is_text(column.type) and names is not None:
            classes = pa.array(names, column.type)
            unknown = pc.and_(pc.is_valid(column), pc.invert(pc.is_in(column, value_set=classes)))
            problem = f"none of the labels {list(names)}"
            self.bad_rows.add(self.label, problem, np.asarray(unknown), skippable=False)
            column, first = pc.index_in(column, value_set=classes), 0
        if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
            raise DataError(f"{self.raw.origin}: column {self.label!r} holds {column.type}, not a label")
        values = np.asarray(column.cast(pa.float64()).fill_null(-1.0))
        hidden = (values == -1) if self.role == "test" else np.zeros(len(values), dtype=bool)
        if self.role != "test":
            self.bad_rows.add(self.label, "null", np.asarray(pc.is_null(column)))
        if names is None:
            self.bad_rows.add(self.label, "a label that is no number", ~np.isfinite(values) & ~hidden)
            if self.role != "test":
                self.bad_rows.add(self.label, "a hidden label (-1)", values == -1)
            return values.astype(dtype)
        values = np.where(hidden, -1, values - first)
        out_of_range = ~np.isin(values, np.arange(len(names))) & ~hidden
        self.bad_rows.add(self.label, f"a label outside {first} to {first + len(names) - 1}", out_of_range)
        return values.astype(dtype)
