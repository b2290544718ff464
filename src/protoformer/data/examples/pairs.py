"""Rows of a data set of texts in two languages -> pairs; and parallel text in files of one language each."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy import ndarray

from protoformer.data.sources.parallel import LINES
from protoformer.data.sources.source import RawStream, RawTable, Role
from protoformer.errors import ConfigurationError, DataError


@dataclass(frozen=True)
class PairExamples:
    """Texts and their translations; `row` is each one's number in the file."""

    sources: list[str]
    targets: list[str]
    row: ndarray
    skipped: int


@dataclass(frozen=True)
class ParallelTextReader:
    """A data set with a text in each of several languages, by the languages' names: each a column, or a field of one column
    (`column`, such as WMT's `translation`); rows that have no such column have the languages as columns.

    Raises ConfigurationError for a language that is to be translated into itself.
    """

    dataset: str
    source: str
    target: str
    column: str | None = None
    subset: str | None = None
    revision: str | None = None

    def __post_init__(self) -> None:
        if self.source == self.target:
            raise ConfigurationError(f"task.rows: source and target are both {self.source!r}; name two languages")

    def read(self, raw: RawTable, role: Role, on_bad_row: Literal["error", "skip"] = "error") -> PairExamples:
        """Raises DataError for a language that is not there, zero rows, or (unless skipped) an empty line."""
        texts = [self._texts(raw.table, name, raw.origin) for name in (self.source, self.target)]
        if not texts[0]:
            raise DataError(f"{raw.origin}: zero rows")
        bad = np.zeros(len(texts[0]), dtype=bool)
        for name, column in zip((self.source, self.target), texts, strict=True):
            empty = np.asarray([not (text and text.strip()) for text in column])
            if empty.any() and on_bad_row == "error":
                more = f" ({int(empty.sum())} rows in all)" if empty.sum() > 1 else ""
                first = int(np.flatnonzero(empty)[0])
                place = f"{raw.origin}, row {first}, language {name!r}"
                if raw.origin.endswith(LINES):  # a file a language
                    place = f"{raw.origin.removesuffix(LINES)}.{name}, line {first + 1}"
                raise DataError(f"{place}: an empty line{more}; task.data.on_bad_row=skip skips such pairs")
            bad |= empty
        keep = np.flatnonzero(~bad)
        if not len(keep):
            raise DataError(f"{raw.origin}: every one of its {len(bad)} rows is unusable")
        sources, targets = ([str(column[i]) for i in keep] for column in texts)
        return PairExamples(sources, targets, keep, len(bad) - len(keep))

    def texts(self, stream: RawStream) -> Iterator[str]:
        """Every text of both languages, to learn a vocabulary from."""
        for batch in stream.batches():
            for name in (self.source, self.target):
                yield from (text for text in self._texts(pa.Table.from_batches([batch]), name, stream.origin) if text)

    def _texts(self, table: pa.Table, language: str, origin: str) -> list[Any]:
        held: Any = table
        there: Sequence[str] = table.column_names
        if self.column in table.column_names and pa.types.is_struct(table.column(self.column).type):
            held = table.column(self.column).combine_chunks()
            there = [field.name for field in held.type]
        if language not in there:
            raise DataError(f"{origin}: no language {language!r}; it has {', '.join(there)}")
        column = held.field(language) if isinstance(held, pa.StructArray) else table.column(language)
        if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
            raise DataError(f"{origin}: {language!r} holds {column.type}, not text")
        return column.to_pylist()
