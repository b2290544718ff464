"""Parallel text: pairs of a source text and its translation."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Int
from numpy import ndarray

from protoformer.data.examples.columns import BadRows, OnBadRow, nullable_texts, select
from protoformer.data.examples.values import as_text, is_text, plain, python_values, without_json
from protoformer.data.sources.parallel import ANY_LANGUAGE
from protoformer.data.sources.rows import scalar_text
from protoformer.data.sources.source import DatasetRef, RawStream, RawTable, Role
from protoformer.errors import ConfigurationError, DataError


@dataclass(frozen=True)
class ParallelExamples:
    """Texts and their translations; `row` is each pair's row number in the file, `reasons` says why others were skipped."""

    sources: list[str]
    targets: list[str]
    row: Int[ndarray, "pairs"]
    skipped: int
    reasons: Mapping[str, int] = field(default_factory=dict)


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
        columns = [self._column(raw.table, language, raw.origin) for language in languages]
        if not raw.table.num_rows:
            raise DataError(f"{raw.origin}: zero rows")
        parts = replace(raw, table=pa.table(dict(zip(languages, columns, strict=True))))
        bad_rows = LanguageRows(parts, on_bad_row)
        texts = [nullable_texts(parts, language, bad_rows) for language in languages]
        for language, column in zip(languages, texts, strict=True):
            bad_rows.add(language, "an empty line", np.asarray([not (text and text.strip()) for text in column]))
        rows = bad_rows.usable()
        sources, targets = ([str(text) for text in select(column, rows)] for column in texts)
        return ParallelExamples(sources, targets, rows, raw.table.num_rows - len(rows), bad_rows.reasons)

    def texts(self, stream: RawStream) -> Iterator[str]:
        """Every text of both languages, to learn a vocabulary from."""
        for batch in stream.batches():
            table = pa.Table.from_batches([batch])
            for language in (self.source, self.target):
                converted = as_text(self._column(table, language, stream.origin))
                if converted is not None:
                    yield from (text for text in converted[0].to_pylist() if text)

    def _column(self, table: pa.Table, language: str, origin: str) -> pa.ChunkedArray:
        names = table.column_names
        if self.column in names:
            column = plain(table.column(self.column))
            if pa.types.is_struct(column.type):
                fields = [field.name for field in column.type]
                if language in fields:
                    return pc.struct_field(column, [fields.index(language)])
                names = fields
            elif is_text(column.type):  # JSON in a column of text, or objects that no one Arrow type holds
                values = python_values(column, table.schema.field(self.column))
                texts = [value.get(language) if isinstance(value, dict) else None for value in values]
                if any(text is not None for text in texts):
                    texts = [None if isinstance(text, list | dict) else scalar_text(text) for text in texts]
                    return pa.chunked_array([pa.array(texts, pa.large_string())])
        elif language in names:
            return without_json(table.column(language), table.schema.field(language))[0]
        raise DataError(f"{origin}: no language {language!r}; it has {', '.join(names)}")


class LanguageRows(BadRows):
    """Bad rows of parallel text. Where each language has a file, a message names that file."""

    def where(self, row: int, column: str) -> str:
        split, mark, _ = self.raw.origin.rpartition(ANY_LANGUAGE)
        if mark and " + " not in self.raw.origin:  # a whole split, or a part of one
            return f"{split}.{column}, line {self.raw.row_numbers[row] + 1}"
        return f"{self.raw.location(row)}, language {column!r}"
