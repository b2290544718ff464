"""Columns of a raw table, read with errors that name column and row."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy import ndarray

from protoformer.data.sources.source import RawTable, Role
from protoformer.errors import DataError


def _present(raw: RawTable, needed: Sequence[str]) -> None:
    if lacking := [name for name in needed if name not in raw.table.column_names]:
        raise DataError(
            f"{raw.origin}: no column {', '.join(map(repr, lacking))}; it has {', '.join(raw.table.column_names)}"
        )
    if raw.table.num_rows == 0:
        raise DataError(f"{raw.origin}: zero rows")


class Reading:
    """A table whose columns are taken one by one; what is found wrong in a row is an error, or marks it as unusable."""

    def __init__(self, raw: RawTable, role: Role, on_bad_row: str, names: Sequence[str], label: str) -> None:
        _present(raw, names if role == "test" else [*names, label])
        self.raw, self.role, self.on_bad_row, self.label = raw, role, on_bad_row, label
        self.bad = np.zeros(raw.table.num_rows, dtype=bool)

    def keep(self) -> ndarray:
        """The rows that can be used, by number; of a test split all."""
        keep = np.arange(len(self.bad)) if self.role == "test" else np.flatnonzero(~self.bad)
        if len(keep) == 0:
            raise DataError(f"{self.raw.origin}: every one of its {len(self.bad)} rows is unusable")
        return keep

    def text(self, name: str) -> list[str]:
        column = self.raw.table.column(name)
        if not _textual(column.type):
            raise DataError(f"{self.raw.origin}: column {name!r} holds {column.type}, not text")
        for what, wrong in (
            ("null", pc.is_null(column)),
            ("empty text", pc.equal(pc.utf8_trim_whitespace(column), "")),
        ):
            self._mark(name, what, np.asarray(wrong.fill_null(False)))
        return column.fill_null("").to_pylist()

    def listed(self, name: str, count: int) -> list[list[str]]:
        """A column of lists of `count` texts each."""
        column = self.raw.table.column(name)
        kind = column.type
        if not ((pa.types.is_list(kind) or pa.types.is_large_list(kind)) and _textual(kind.value_type)):
            raise DataError(f"{self.raw.origin}: column {name!r} holds {kind}, not lists of texts")
        rows = [list(row or ()) for row in column.to_pylist()]
        short = np.asarray([len(row) != count for row in rows])
        empty = np.asarray([not all(text and text.strip() for text in row) for row in rows])
        self._mark(name, f"not a list of {count} choices", short)
        self._mark(name, "an empty choice", empty & ~short)
        return [[""] * count if short[i] else [text or "" for text in row] for i, row in enumerate(rows)]

    def labels(self, words: Sequence[str] | None, first: int = 0) -> ndarray:
        """Numbers from 0 (-1: hidden); in the file they count from `first`, or are words. Without words any number."""
        dtype = np.float32 if words is None else np.int64
        if self.label not in self.raw.table.column_names:
            return np.full(len(self.bad), -1, dtype=dtype)
        column = self.raw.table.column(self.label)
        if _textual(column.type) and words is not None:
            unknown = pc.and_(pc.is_valid(column), pc.invert(pc.is_in(column, value_set=pa.array(words, column.type))))
            _mark(self.raw, self.label, f"none of the labels {list(words)}", np.asarray(unknown), self.bad, "never")
            column, first = pc.index_in(column, value_set=pa.array(words, column.type)), 0
        if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
            raise DataError(f"{self.raw.origin}: column {self.label!r} holds {column.type}, not a label")
        values = np.asarray(column.cast(pa.float64()).fill_null(-1.0))
        hidden = (values == -1) if self.role == "test" else np.zeros(len(values), dtype=bool)
        if self.role != "test":
            self._mark(self.label, "null", np.asarray(pc.is_null(column)))
        if words is None:
            self._mark(self.label, "a label that is no number", ~np.isfinite(values) & ~hidden)
            if self.role != "test":
                self._mark(self.label, "a hidden label (-1)", values == -1)
            return values.astype(dtype)
        values = np.where(hidden, -1, values - first)
        wrong = ~np.isin(values, np.arange(len(words))) & ~hidden
        self._mark(self.label, f"a label outside {first} to {first + len(words) - 1}", wrong)
        return values.astype(dtype)

    def _mark(self, column: str, what: str, wrong: ndarray) -> None:
        _mark(self.raw, column, what, wrong, self.bad, self.on_bad_row)


def _textual(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _chosen(texts: list[str], keep: ndarray) -> list[str]:
    return texts if len(keep) == len(texts) else [texts[i] for i in keep]


def _mark(raw: RawTable, column: str, what: str, wrong: ndarray, bad: ndarray, on_bad_row: str) -> None:
    """Mark rows as bad where they are skipped; else raise. `never`: they cannot be skipped, and so it is not advised."""
    where = np.flatnonzero(wrong)
    if len(where) == 0:
        return
    if on_bad_row != "skip":
        value = raw.table.column(column)[int(where[0])].as_py()
        shown = "" if value in (None, "") else f" ({value!r})" if len(repr(value)) < 80 else f" ({repr(value)[:76]}...)"
        more = f" ({len(where)} rows in all)" if len(where) > 1 else ""
        ways = "; task.data.on_bad_row=skip leaves such rows out" if on_bad_row == "error" else ""
        raise DataError(f"{raw.origin}, row {where[0]}, column {column!r}: {what}{shown}{more}{ways}")
    bad |= wrong
