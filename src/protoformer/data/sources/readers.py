"""Readers of files: parquet, JSON, CSV, TSV and plain text; whole, or a record batch at a time."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet

from protoformer.data.sources import delimited, json_rows
from protoformer.data.sources.rows import (
    NO_COLUMN,
    FileRow,
    RowBatch,
    batches,
    check_names,
    joined,
    selected_columns,
)
from protoformer.data.sources.text_files import COMPRESSED, READ_ERRORS, ROWS_PER_BATCH, base_suffix, documents
from protoformer.errors import DataError

SUFFIXES = (".parquet", ".jsonl", ".json", ".csv", ".tsv", ".txt")
MAX_COLUMNS = 1000  # of JSON rows, that are remembered for a message
SUPPORTED = f"{', '.join(SUFFIXES)}, the text files also with {', '.join(COMPRESSED)}"


def is_supported(path: Path) -> bool:
    """Whether a file's name says that it can be read."""
    return path.suffix == ".parquet" or (base_suffix(path) in SUFFIXES and base_suffix(path) != ".parquet")


@dataclass(frozen=True)
class FileTable:
    """All rows of a file. `lines` are the numbers of the rows' first lines, where it has lines; `broken` says by row what could
    not be read: such a row is all null."""

    path: Path
    table: pa.Table
    lines: list[int] | None
    broken: Mapping[int, str]


def read_table(path: Path, encoding: str | None = None) -> FileTable:
    """All rows of a file. Raises DataError where it cannot be read, or a column stands twice."""
    tables: list[pa.Table] = []
    lines: list[int] = []
    broken: dict[int, str] = {}
    first = 0
    for each in read_batches(path, None, encoding):
        tables.append(pa.Table.from_batches([each.batch]))
        broken |= {first + row: problem for row, problem in each.broken.items()}
        lines += each.lines or []
        first += each.batch.num_rows
    if not tables:
        return FileTable(path, _empty(path, encoding), None, {})
    table = joined(tables)
    if table.column_names == [NO_COLUMN] and broken:
        where = f", line {lines[0]}" if lines else ""
        raise DataError(f"{path}{where}: {broken[0]}; no row can be read")
    return FileTable(path, table, lines if len(lines) == first else None, broken)


def _empty(path: Path, encoding: str | None) -> pa.Table:
    """The columns of a file without rows."""
    if path.suffix == ".parquet":
        return pyarrow.parquet.read_schema(path).empty_table()
    names = {".csv": delimited.header, ".tsv": delimited.header}.get(base_suffix(path))
    if names is None and base_suffix(path) != ".txt":
        raise DataError(f"{path}: no rows")
    return pa.table({name: pa.array([], pa.string()) for name in (names(path, encoding) if names else ["text"])})


def read_batches(path: Path, columns: Sequence[str] | None, encoding: str | None = None) -> Iterator[RowBatch]:
    """Rows of a file, some at a time, with these columns (None: all).

    Raises DataError as `read_table`, and for a missing column.
    """
    try:
        if path.suffix == ".parquet":
            yield from _parquet_batches(path, columns)
        elif base_suffix(path) == ".txt":
            yield from batches(_document_rows(path, columns, encoding), columns)
        elif base_suffix(path) in (".jsonl", ".json"):
            yield from _json_batches(path, columns, encoding)
        else:
            names = selected_columns(columns, delimited.header(path, encoding), str(path))
            yield from batches(delimited.rows(path, encoding), names)
    except READ_ERRORS as error:
        raise DataError(f"{path}: cannot be read ({_first_line(error)})") from None


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), "") or type(error).__name__


def _parquet_batches(path: Path, columns: Sequence[str] | None) -> Iterator[RowBatch]:
    with pyarrow.parquet.ParquetFile(path) as file:
        check_names(file.schema_arrow.names, path)
        names = selected_columns(columns, file.schema_arrow.names, str(path))
        for batch in file.iter_batches(batch_size=ROWS_PER_BATCH, columns=names):
            yield RowBatch(batch.select(names))  # the library also gives `text.more` where `text` is selected


def _document_rows(path: Path, columns: Sequence[str] | None, encoding: str | None) -> Iterator[FileRow]:
    selected_columns(columns, ["text"], str(path))
    for text, line, problem in documents(path, encoding):
        yield FileRow({} if problem else {"text": text}, line, problem)


def _json_batches(path: Path, columns: Sequence[str] | None, encoding: str | None) -> Iterator[RowBatch]:
    seen: dict[str, None] = {}

    def rows() -> Iterator[FileRow]:
        for row in json_rows.rows(path, encoding):
            if len(seen) < MAX_COLUMNS:
                seen.update(dict.fromkeys(row.values))
            yield row

    for index, batch in enumerate(batches(rows(), columns)):
        if columns and index == 0 and seen:  # a column that no row of the first ones has
            selected_columns(columns, list(seen), str(path))
        yield batch
