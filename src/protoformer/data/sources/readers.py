"""Readers of files: parquet, jsonl, csv, tsv and plain text; whole, or a record batch at a time."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet

from protoformer.errors import DataError

SUFFIXES = (".parquet", ".jsonl", ".json", ".csv", ".tsv", ".txt")
TEXT = pa.schema([("text", pa.large_string())])  # the column of a txt file
EDGE_BYTES = 64 * 1024  # at either end of a file, read for its digest as a stream
ROWS_PER_BATCH = 1024  # of a record batch, at most
CHARS_PER_BATCH = 1 << 20  # of the documents of a record batch, about


def edges_digest(paths: Iterable[Path]) -> str:
    """Digest of each file's name, size, and first and last 64 KiB: a corpus takes too long to read whole."""
    digest = hashlib.sha256()
    for path in paths:
        size = path.stat().st_size
        digest.update(f"{path.name}\0{size}\0".encode())
        with path.open("rb") as file:
            digest.update(file.read(EDGE_BYTES))
            file.seek(max(EDGE_BYTES, size - EDGE_BYTES))
            digest.update(file.read(EDGE_BYTES))
    return digest.hexdigest()


def _csv_options(path: Path) -> dict[str, Any]:
    tabs = path.suffix == ".tsv"
    return {
        "parse_options": pyarrow.csv.ParseOptions(
            delimiter="\t" if tabs else ",", quote_char=False if tabs else '"', newlines_in_values=not tabs
        ),
        "convert_options": pyarrow.csv.ConvertOptions(strings_can_be_null=False),
    }


def read_table(path: Path) -> pa.Table:
    """All rows of a file. Raises DataError where it cannot be read."""
    try:
        if path.suffix == ".parquet":
            return pyarrow.parquet.read_table(path)
        if path.suffix in (".jsonl", ".json"):
            return pyarrow.json.read_json(path)
        if path.suffix == ".txt":
            return pa.Table.from_batches(_documents(path), TEXT)
        return pyarrow.csv.read_csv(path, **_csv_options(path))
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path}: cannot be read ({str(error).splitlines()[0]})") from None


def read_batches(paths: Iterable[Path], columns: Sequence[str] | None) -> Iterator[pa.RecordBatch]:
    """Rows of files, one after another. Raises DataError for a file that cannot be read or lacks a column."""
    for path in paths:
        try:
            yield from _file_batches(path, columns)
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"{path}: cannot be read ({str(error).splitlines()[0]})") from None


def _file_batches(path: Path, columns: Sequence[str] | None) -> Iterator[pa.RecordBatch]:
    if path.suffix == ".parquet":
        with pyarrow.parquet.ParquetFile(path) as file:
            names = selected_columns(columns, file.schema_arrow.names, str(path))
            yield from file.iter_batches(batch_size=ROWS_PER_BATCH, columns=names)
        return
    if path.suffix == ".txt":
        reader: Iterable[pa.RecordBatch] = _documents(path)
    elif path.suffix in (".jsonl", ".json"):
        # pyarrow infers a column's type from the first block; a column that is not read must not fail by that
        schema = pa.schema([(name, pa.string()) for name in columns]) if columns else None
        unexpected = "ignore" if columns else "infer"
        options = pyarrow.json.ParseOptions(explicit_schema=schema, unexpected_field_behavior=unexpected)
        reader = pyarrow.json.open_json(path, parse_options=options)
    else:
        options = _csv_options(path)
        if columns:
            options["convert_options"].column_types = {name: pa.string() for name in columns}
        reader = pyarrow.csv.open_csv(path, **options)
    for batch in reader:
        yield batch.select(selected_columns(columns, batch.schema.names, str(path)))


def selected_columns(columns: Sequence[str] | None, available: Sequence[str], origin: str) -> list[str]:
    """The columns to read (None: all). Raises DataError where one is missing."""
    missing = [name for name in columns or () if name not in available]
    if missing:
        raise DataError(f"{origin}: no column {', '.join(map(repr, missing))}; it has {', '.join(available)}")
    return list(columns or available)


def _documents(path: Path) -> Iterator[pa.RecordBatch]:
    """Documents of a text file as record batches. Raises DataError for a byte that is not UTF-8."""
    documents: list[str] = []
    size = 0
    for document in _split_at_blank_lines(path):
        documents.append(document)
        size += len(document)
        if size > CHARS_PER_BATCH:
            yield pa.record_batch([pa.array(documents, pa.large_string())], schema=TEXT)
            documents, size = [], 0
    if documents:
        yield pa.record_batch([pa.array(documents, pa.large_string())], schema=TEXT)


def _split_at_blank_lines(path: Path) -> Iterator[str]:
    lines: list[str] = []
    line_start = 0  # in bytes
    with path.open("rb") as file:
        for raw in file:
            try:
                line = raw.decode("utf-8" if line_start else "utf-8-sig").rstrip()
            except UnicodeDecodeError as error:
                byte = line_start + error.start + (3 if not line_start and raw.startswith(b"\xef\xbb\xbf") else 0)
                raise DataError(f"{path}, byte {byte}: not UTF-8 ({error.reason}); convert the file") from None
            line_start += len(raw)
            if line:
                lines.append(line)
            elif lines:
                yield "\n".join(lines)
                lines = []
    if lines:
        yield "\n".join(lines)
