"""Parallel text: pairs of a source text and its translation."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from jaxtyping import Int
from numpy import ndarray

from protoformer.data.examples.columns import OnBadRow, is_text, select
from protoformer.data.sources.parallel import ANY_LANGUAGE
from protoformer.data.sources.source import DatasetRef, RawStream, RawTable, Role
from protoformer.errors import ConfigurationError, DataError


@dataclass(frozen=True)
class ParallelExamples:
    """Texts and their translations; `row` is each pair's row number in the file."""

    sources: list[str]
    targets: list[str]
    row: Int[ndarray, "pairs"]
    skipped: int


@dataclass(frozen=True)
class ParallelTextReader(DatasetRef):
    """Reader of a data set with the same text in several languages; `source` and `target` are the languages' names.

    Languages are columns, or the fields of one struct `column` (WMT's `translation`). Where the table has no such column, they
    are columns. Raises ConfigurationError where source and target are the same.
    """

    source: str
    target: str
    column: str | None = None

    def __post_init__(self) -> None:
        if self.source == self.target:
            raise ConfigurationError(f"task.rows: source and target are both {self.source!r}; name two languages")

    def read(self, raw: RawTable, role: Role, on_bad_row: OnBadRow = "error") -> ParallelExamples:
        """Raises DataError for a missing language, zero rows, or (unless skipped) an empty line."""
        languages = (self.source, self.target)
        texts = [self._texts(raw.table, language, raw.origin) for language in languages]
        if not texts[0]:
            raise DataError(f"{raw.origin}: zero rows")
        bad = np.zeros(len(texts[0]), dtype=bool)
        for language, column in zip(languages, texts, strict=True):
            empty = np.asarray([not (text and text.strip()) for text in column])
            if empty.any() and on_bad_row == "error":
                raise DataError(_empty_line(raw.origin, language, np.flatnonzero(empty)))
            bad |= empty
        rows = np.flatnonzero(~bad)
        if not len(rows):
            raise DataError(f"{raw.origin}: every one of its {len(bad)} rows is unusable")
        sources, targets = ([str(text) for text in select(column, rows)] for column in texts)
        return ParallelExamples(sources, targets, rows, len(bad) - len(rows))

    def texts(self, stream: RawStream) -> Iterator[str]:
        """Every text of both languages, to learn a vocabulary from."""
        for batch in stream.batches():
            table = pa.Table.from_batches([batch])
            for language in (self.source, self.target):
                yield from (text for text in self._texts(table, language, stream.origin) if text)

    def _texts(self, table: pa.Table, language: str, origin: str) -> list[str | None]:
        columns = {name: table.column(name) for name in table.column_names}
        if self.column in columns and pa.types.is_struct(columns[self.column].type):
            struct = columns[self.column].combine_chunks()
            columns = {field.name: struct.field(field.name) for field in struct.type}
        if language not in columns:
            raise DataError(f"{origin}: no language {language!r}; it has {', '.join(columns)}")
        column = columns[language]
        if not is_text(column.type):
            raise DataError(f"{origin}: {language!r} holds {column.type}, not text")
        return column.to_pylist()


def _empty_line(origin: str, language: str, rows: Int[ndarray, "empty"]) -> str:
    """The message for empty rows of a language."""
    row = int(rows[0])
    where = f"{origin}, row {row}, language {language!r}"
    if origin.endswith(ANY_LANGUAGE):  # one file a language
        where = f"{origin.removesuffix(ANY_LANGUAGE)}.{language}, line {row + 1}"
    more = f" ({len(rows)} rows in all)" if len(rows) > 1 else ""
    return f"{where}: an empty line{more}; task.data.on_bad_row=skip skips such pairs"
