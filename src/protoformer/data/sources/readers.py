"""Rows of files: parquet, jsonl, csv, tsv, and plain text; all of them at once, or a record batch at a time."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from protoformer.errors import DataError

SUFFIXES = (".parquet", ".jsonl", ".json", ".csv", ".tsv", ".txt")
TEXT = pa.schema([("text", pa.large_string())])  # the column of a txt file
EDGE = 64 * 1024  # bytes at either end of a file that its digest as a stream is of
ROWS = 1024  # of a record batch, at most
CHARACTERS = 1 << 20  # of text read before a record batch is given


def edges_digest(paths: Iterable[Path]) -> str:
    """Of each file's name, size, and first and last 64 KiB: a corpus is too long to be read for its digest."""
    digest = hashlib.sha256()
    for path in paths:
        size = path.stat().st_size
        digest.update(f"{path.name}\0{size}\0".encode())
        with path.open("rb") as file:
            digest.update(file.read(EDGE))
            file.seek(max(EDGE, size - EDGE))
            digest.update(file.read(EDGE))
    return digest.hexdigest()


def _csv_options(path: Path) -> dict[str, Any]:
    import pyarrow.csv

    tabs = path.suffix == ".tsv"
    return {
        "parse_options": pyarrow.csv.ParseOptions(
            delimiter="\t" if tabs else ",", quote_char=False if tabs else '"', newlines_in_values=not tabs
        ),
        "convert_options": pyarrow.csv.ConvertOptions(strings_can_be_null=False),
    }


def read(path: Path) -> pa.Table:
    import pyarrow.csv
    import pyarrow.json
    import pyarrow.parquet

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


def batches(paths: Iterable[Path], columns: Sequence[str] | None) -> Iterator[pa.RecordBatch]:
    """The rows of files, one after another. Raises DataError on one that cannot be read or that lacks a column."""
    for path in paths:
        try:
            yield from _batches_of(path, columns)
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"{path}: cannot be read ({str(error).splitlines()[0]})") from None


def _batches_of(path: Path, columns: Sequence[str] | None) -> Iterator[pa.RecordBatch]:
    import pyarrow.csv
    import pyarrow.json
    import pyarrow.parquet

    if path.suffix == ".parquet":
        with pyarrow.parquet.ParquetFile(path) as file:
            names = wanted(columns, file.schema_arrow.names, str(path))
            yield from file.iter_batches(batch_size=ROWS, columns=names)
        return
    if path.suffix == ".txt":
        reader: Iterable[pa.RecordBatch] = _documents(path)
    elif path.suffix in (".jsonl", ".json"):
        # the type of a column is settled by the first block: what is not asked for must not fail by it
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
        yield batch.select(wanted(columns, batch.schema.names, str(path)))


def wanted(columns: Sequence[str] | None, there: Sequence[str], origin: str) -> list[str]:
    """The columns to read. Raises DataError where one is lacking."""
    lacking = [name for name in columns or () if name not in there]
    if lacking:
        raise DataError(f"{origin}: no column {', '.join(map(repr, lacking))}; it has {', '.join(there)}")
    return list(columns or there)


def _documents(path: Path) -> Iterator[pa.RecordBatch]:
    """The documents of a text file. Raises DataError on a byte that is not UTF-8."""
    documents: list[str] = []
    size = 0
    for document in _split_at_blank_lines(path):
        documents.append(document)
        size += len(document)
        if size > CHARACTERS:
            yield pa.record_batch([pa.array(documents, pa.large_string())], schema=TEXT)
            documents, size = [], 0
    if documents:
        yield pa.record_batch([pa.array(documents, pa.large_string())], schema=TEXT)


def _split_at_blank_lines(path: Path) -> Iterator[str]:
    lines: list[str] = []
    place = 0  # of the line, in bytes
    with path.open("rb") as file:
        for raw in file:
            try:
                line = raw.decode("utf-8" if place else "utf-8-sig").rstrip()
            except UnicodeDecodeError as error:
                byte = place + error.start + (3 if not place and raw.startswith(b"\xef\xbb\xbf") else 0)
                raise DataError(f"{path}, byte {byte}: not UTF-8 ({error.reason}); convert the file") from None
            place += len(raw)
            if line:
                lines.append(line)
            elif lines:
                yield "\n".join(lines)
                lines = []
    if lines:
        yield "\n".join(lines)
