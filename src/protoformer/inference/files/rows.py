"""Rows of an input file (CSV, TSV, JSON, JSON lines, parquet, text lines) or of standard input, one after another."""

import contextlib
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa

from protoformer.data.examples.values import python_values
from protoformer.data.sources.readers import read_batches
from protoformer.data.sources.rows import position
from protoformer.errors import ConfigurationError, DataError

FORMATS = ("csv", "tsv", "json", "jsonl", "parquet", "txt")
STANDARD_INPUT = "-"
TEXT = "text"  # the column of a text file: a line is a row


@dataclass(frozen=True)
class InputRow:
    """The values of a row by column, its location for messages, and what is wrong with it (None: nothing)."""

    values: Mapping[str, Any]
    location: str
    problem: str | None = None


@dataclass(frozen=True)
class InputFile:
    """A file that is read row by row; `total` estimates its rows (None: unknown), and `exact` says whether that is sure."""

    name: str
    rows: Iterator[InputRow]
    total: int | None = None
    exact: bool = False


@contextlib.contextmanager
def open_input(file: str, input_format: str | None = None) -> Iterator[InputFile]:
    """A file, or standard input for `-`, whose format `input_format` says (None: it is text lines or JSON, as it begins).

    Raises ConfigurationError for a file of an unknown format, OSError where there is none.
    """
    if file == STANDARD_INPUT:
        with _standard_input(input_format) as opened:
            yield opened
        return
    if input_format is not None:
        raise ConfigurationError(f"--format {input_format} is for --file -; a file's name ends in its format")
    path = Path(file).expanduser()
    with path.open("rb"):  # an absent file is an error that names it
        pass
    name = path.name.removesuffix(".gz").removesuffix(".bz2").removesuffix(".xz")
    if Path(name).suffix.removeprefix(".") not in FORMATS:
        raise ConfigurationError(f"{path}: an unknown format; the name of a file ends in .{', .'.join(FORMATS)}")
    total, exact = _count(path)
    if Path(name).suffix == ".txt":
        with path.open("rb") as lines:
            yield InputFile(str(path), _text_rows(lines, str(path)), total, exact)
        return
    yield InputFile(str(path), _rows(path, str(path)), total, exact)


@contextlib.contextmanager
def _standard_input(input_format: str | None) -> Iterator[InputFile]:
    stream = sys.stdin.buffer
    first = stream.readline()
    if input_format is None:
        begins = first.lstrip()[:1]
        input_format = "jsonl" if begins in (b"{", b"[") else "txt"
    if input_format == "txt":
        yield InputFile("standard input", _text_rows(chain([first] if first else [], stream), "standard input"))
        return
    # formats with a header, or of several lines, are read from a copy
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"input.{input_format}"
        with path.open("wb") as copy:
            copy.write(first)
            shutil.copyfileobj(stream, copy)
        total, exact = _count(path)
        yield InputFile("standard input", _rows(path, "standard input"), total, exact)


def text_lines(lines: Iterable[bytes]) -> Iterator[tuple[int, str, str | None]]:
    """Lines of UTF-8, ended by line feeds alone: the number from 1, the text, what is wrong with it (None: nothing)."""
    for number, line in enumerate(lines, start=1):
        try:
            yield number, line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n"), None
        except UnicodeDecodeError as error:
            yield number, "", f"not UTF-8 ({error.reason})"


def _text_rows(lines: Iterable[bytes], name: str) -> Iterator[InputRow]:
    for number, text, problem in text_lines(lines):
        yield InputRow({TEXT: None if problem else text}, f"{name}, line {number}", problem)


def _rows(path: Path, name: str) -> Iterator[InputRow]:
    try:
        first = 0
        for batch in read_batches(path, None):
            table = pa.Table.from_batches([batch.batch])
            columns = {
                column: python_values(table.column(column), table.schema.field(column)) for column in table.column_names
            }
            for index in range(table.num_rows):
                values = {column: items[index] for column, items in columns.items()}
                yield InputRow(values, f"{name}, {position(index, batch.lines, first)}", batch.broken.get(index))
            first += table.num_rows
    except DataError as error:
        raise DataError(str(error).replace(str(path), name)) from None


def _count(path: Path) -> tuple[int | None, bool]:
    """The rows of a file, and whether that is sure: lines are counted, of which a row may have several."""
    if path.suffix == ".parquet":
        import pyarrow.parquet  # a quarter of a second, and for parquet alone

        with contextlib.suppress(Exception):  # what is wrong with the file is said when it is read
            return pyarrow.parquet.read_metadata(path).num_rows, True
        return None, False
    if path.suffix.removeprefix(".") not in FORMATS or not path.is_file():
        return None, False
    with path.open("rb") as file:
        lines = _lines(file)
    return max(0, lines - (path.suffix in (".csv", ".tsv"))), path.suffix == ".txt"


def _lines(file: BinaryIO) -> int:
    lines, last = 0, b"\n"
    while block := file.read(1 << 20):
        lines += block.count(b"\n")
        last = block[-1:]
    return lines + (last != b"\n")
