"""Text files: decompressed, decoded, in lines; and the documents of a plain text file.

A file is UTF-8, unless its byte order mark or the source's `encoding` says otherwise. Bytes that the encoding does not know are
kept as lone surrogates (`surrogateescape`), which `problem_of` tells from text, so that the line that holds them can be named.
"""

import bz2
import codecs
import gzip
import io
import lzma
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

from protoformer.errors import ConfigurationError, DataError

COMPRESSED: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
READ_ERRORS = (pa.ArrowException, OSError, EOFError, zlib.error, lzma.LZMAError, UnicodeError, MemoryError)
BYTE_ORDER_MARKS = {  # UTF-32's begins with UTF-16's
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
SIGNATURES = {  # of files that are no text, whatever their name says: what each is, and what would do
    b"\x1f\x8b": "compressed by gzip; name it {name}.gz",
    b"BZh": "compressed by bzip2; name it {name}.bz2",
    b"\xfd7zXZ\0": "compressed by xz; name it {name}.xz",
    b"\x28\xb5\x2f\xfd": "compressed by zstd; decompress it, or use gzip, bzip2 or xz",
    b"PK\x03\x04": "a zip archive or an Excel file; unpack it, or save it as CSV (UTF-8)",
    b"\xd0\xcf\x11\xe0": "an Excel file of the old format; save it as CSV (UTF-8)",
    b"%PDF-": "a PDF; what is read is text",
    b"PAR1": "parquet; name it {stem}.parquet",
    b"SQLite format 3": "an SQLite database; export the table as CSV",
}
HEAD_BYTES = 4096  # in which UTF-16 without a byte order mark shows its zero bytes
UTF16_RATE = 4  # with more than one zero byte in so many a file is taken for UTF-16
ZERO_BYTE = "a zero byte, which is no character of a text"
CHARS_PER_BATCH = 1 << 20  # of the texts of a record batch, about
ROWS_PER_BATCH = 1024  # of a record batch, at most


def base_suffix(path: Path) -> str:
    """The suffix that says how a file is read: `.csv` of `train.csv` and of `train.csv.gz`."""
    return Path(path.stem).suffix if path.suffix in COMPRESSED else path.suffix


def check_encoding(encoding: str | None) -> str | None:
    """The encoding; raises ConfigurationError where Python has none of that name."""
    try:
        "".encode(encoding or "utf-8")
    except (LookupError, ValueError, TypeError):
        raise ConfigurationError(
            f"source.encoding={encoding}: no such encoding; such as utf-8, utf-16, latin-1, cp1252, gb18030"
        ) from None
    return encoding


def _without_line_feed(path: Path) -> bool:
    """Whether no byte of a file is a line feed: its lines, if it has several, end at carriage returns (old spreadsheets)."""
    with COMPRESSED[path.suffix](path, "rb") if path.suffix in COMPRESSED else path.open("rb") as file:
        return all(b"\n" not in block for block in iter(lambda: file.read(1 << 20), b""))


def open_text(path: Path, encoding: str | None, newline: Literal["", "\n", "\r"] = "\n") -> io.TextIOWrapper:
    """The decompressed text of a file. Raises DataError for a file that is no text: of another format, or full of zero bytes
    in an encoding that is not known."""
    raw: Any = COMPRESSED[path.suffix](path, "rb") if path.suffix in COMPRESSED else path.open("rb")
    try:
        head = raw.peek(HEAD_BYTES)[:HEAD_BYTES]
        if what := next((what for signature, what in SIGNATURES.items() if head.startswith(signature)), None):
            raise DataError(f"{path}: not a text file: {what.format(name=path.name, stem=path.stem)}")
        marked = next((name for mark, name in BYTE_ORDER_MARKS.items() if head.startswith(mark)), None)
        if marked is None and encoding is None and head.count(b"\0") * UTF16_RATE > len(head):
            raise DataError(
                f"{path}: holds zero bytes, so it is no UTF-8 text; UTF-16 without a byte order mark is read with "
                "source.encoding=utf-16-le (or -be)"
            )
        name = marked or encoding or "utf-8"
        errors = "surrogatepass" if codecs.lookup(name).name.startswith(("utf-16", "utf-32")) else "surrogateescape"
        if newline == "\n" and b"\r" in head and b"\n" not in head and _without_line_feed(path):
            newline = "\r"
        return io.TextIOWrapper(raw, encoding=name, errors=errors, newline=newline)
    except BaseException:  # whatever ends this, the file is closed
        raw.close()
        raise


def problem_of(text: str) -> str | None:
    """What makes a text no valid Unicode; None where it is valid."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        code = ord(text[error.start])
        if 0xDC80 <= code <= 0xDCFF:
            return (
                f"byte 0x{code - 0xDC00:02X} is not UTF-8; source.encoding=latin-1 (or cp1252, ...) reads training data in "
                "another encoding, and other files are to be converted"
            )
        return f"half of a surrogate pair (U+{code:04X}), which is no character"
    return None


def documents(path: Path, encoding: str | None) -> Iterator[tuple[str, int, str | None]]:
    """The documents of a text file, which blank lines separate; each with its first line's number.

    A line that is not valid is left out of its document and comes by itself, empty, with its problem.
    """
    lines: list[str] = []
    first = 0
    with open_text(path, encoding) as file:
        for number, raw in enumerate(file, start=1):
            line = raw.rstrip()
            if problem := ZERO_BYTE if "\0" in line else None if line.isascii() else problem_of(line):
                yield "", number, problem
            elif line:
                first = first if lines else number
                lines.append(line)
            elif lines:
                yield "\n".join(lines), first, None
                lines = []
    if lines:
        yield "\n".join(lines), first, None
