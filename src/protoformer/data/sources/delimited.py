"""CSV and TSV. Every value is text: what a number or a missing value is, the reader of the rows decides.

CSV is RFC 4180's: a quoted field may hold commas, line breaks and doubled quotes. In a TSV quotes are characters like others
(GLUE's files hold single ones), and a row is a line.
"""

import csv
import re
import sys
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from itertools import chain
from pathlib import Path

from protoformer.data.sources.rows import FileRow, check_names
from protoformer.data.sources.text_files import ZERO_BYTE, base_suffix, open_text, problem_of
from protoformer.errors import DataError

MAX_ROW_CHARS = 1 << 28  # a quote that is still open after so many is taken for one that nobody closed


def header(path: Path, encoding: str | None) -> list[str]:
    """The names of the columns, in the first line. Raises DataError where one stands twice, or there is none."""
    records = _records(path, encoding)
    line, names, problem = next(records, (1, [], None))
    records.close()
    problem = problem or next(filter(None, map(problem_of, names)), None)
    if problem or not any(name.strip() for name in names):
        raise DataError(f"{path}, line {line}: {problem or 'no names of columns'}; the first line names the columns")
    names = [name if name else f"column {number}" for number, name in enumerate(names, start=1)]
    check_names(names, path)
    return names


def rows(path: Path, encoding: str | None) -> Iterator[FileRow]:
    """The rows after the header. One with another number of fields is broken; blank lines are none."""
    names = header(path, encoding)
    records = _records(path, encoding)
    next(records)
    for line, fields, problem in records:
        if not problem and len(fields) != len(names):
            problem = f"{_count(len(fields), 'field')} where the header has {len(names)}"
        if not problem and any("\0" in value for value in fields):
            problem = ZERO_BYTE
        yield FileRow({} if problem else dict(zip(names, fields, strict=True)), line, problem)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _records(path: Path, encoding: str | None) -> Generator[tuple[int, list[str], str | None], None, None]:
    """The number of each record's first line, its fields, and what is wrong with it."""
    if base_suffix(path) == ".tsv":
        with open_text(path, encoding) as file:
            for number, line in enumerate(file, start=1):
                text = line.rstrip("\n").removesuffix("\r")
                if text:
                    yield number, text.split("\t"), None
        return
    with open_text(path, encoding, newline="") as file:
        first = file.readline()
        yield from _quoted_records(chain([first], file) if first else file, _delimiter(first))


def _delimiter(header_line: str) -> str:
    """A comma; where the header has none outside of quotes, the semicolon, tab or bar that it has (spreadsheets write what a
    country uses)."""
    unquoted = re.sub(r'"[^"]*"', "", header_line)
    return next((character for character in ",;\t|" if character in unquoted), ",")


def _quoted_records(lines: Iterable[str], delimiter: str) -> Iterator[tuple[int, list[str], str | None]]:
    """The records of a CSV. After one that cannot be read, the next is looked for in the line after its first."""
    csv.field_size_limit(sys.maxsize)  # the library's limit is 128 KiB
    source = _Lines(lines)
    reader = csv.reader(source, delimiter=delimiter, strict=True)
    while True:
        line = source.begin()
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            source.go_back()
            yield line, [], _quote_problem(error)
        else:
            if fields:
                yield line, fields, None


def _quote_problem(error: csv.Error) -> str:
    if "unexpected end of data" in str(error):
        return "a quote that is opened and never closed"
    if "expected after" in str(error):
        return "text after a closing quote; a quote inside a quoted field is doubled"
    return str(error)


class _Lines:
    """Lines for a csv reader, which can go back to the second line of the record that it reads."""

    def __init__(self, lines: Iterable[str]) -> None:
        self.lines, self.returned = iter(lines), deque[str]()
        self.taken: list[str] = []  # by the record that is read
        self.number, self.chars = 0, 0

    def begin(self) -> int:
        """Begin a record; gives the number of its first line."""
        self.taken, self.chars = [], 0
        return self.number + 1

    def go_back(self) -> None:
        self.returned.extendleft(reversed(self.taken[1:]))
        self.number -= len(self.taken) - 1

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        if self.chars > MAX_ROW_CHARS:
            raise StopIteration  # to the reader the file ends inside of the quotes
        line = self.returned.popleft() if self.returned else next(self.lines)
        self.taken.append(line)
        self.chars += len(line)
        self.number += 1
        return line
