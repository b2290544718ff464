"""Source of data sets: the protocol, and what a source gives.

A split is read whole (`load`), or, where it may not fit in memory, as a stream of record batches (`stream`).
"""

import hashlib
import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Literal, Protocol

import pyarrow as pa

from protoformer.data.sources.readers import FileTable, read_batches, read_table
from protoformer.data.sources.rows import joined, position, selected_columns
from protoformer.data.sources.text_files import ROWS_PER_BATCH, base_suffix
from protoformer.runs.digests import file_digest

Role = Literal["train", "validation", "test"]
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class DatasetRef:
    """A data set by its name on the hub, its subset (None: its only one) and its revision (a commit; None: the newest)."""

    dataset: str
    subset: str | None = field(default=None, kw_only=True)
    revision: str | None = field(default=None, kw_only=True)

    @property
    def stratified_by(self) -> str | None:
        """The column whose values every fold has in the same proportions; None: folds are drawn from all rows alike."""
        return None

    @property
    def grouped_by(self) -> str | None:
        """The column whose equal values stay in one fold; None: each row stands for itself."""
        return None


@dataclass(frozen=True)
class RawTable:
    """Rows of a split: the table, its origin (for messages), and a digest of its content (for caches).

    `files` are the files that the rows come from, from row `first_row` of the first one on, or these `rows` of them.
    `broken` says by row what could not be read: such a row is null in every column.
    """

    table: pa.Table
    origin: str
    digest: str
    files: Sequence[FileTable] = ()
    first_row: int = 0
    broken: Mapping[int, str] = field(default_factory=dict)
    rows: Sequence[int] | None = None

    def take(self, numbers: Sequence[int]) -> "RawTable":
        """These rows, each of which keeps its position in its file."""
        return replace(
            self,
            table=self.table.take(pa.array(numbers, pa.int64())),
            first_row=0,
            rows=[self.first_row + number if self.rows is None else int(self.rows[number]) for number in numbers],
            broken={new: self.broken[number] for new, number in enumerate(numbers) if number in self.broken},
        )

    @property
    def row_numbers(self) -> Sequence[int]:
        """The number of each row in the whole split (in the whole splits together, where there are several)."""
        return range(self.first_row, self.first_row + self.table.num_rows) if self.rows is None else self.rows

    def location(self, row: int) -> str:
        """The file and the line of a row (the row, where the file has no lines) for a message."""
        row_in_file = self.first_row + row if self.rows is None else int(self.rows[row])
        for file in self.files:
            if row_in_file < file.table.num_rows:
                return f"{file.path}, {position(row_in_file, file.lines)}"
            row_in_file -= file.table.num_rows
        return f"{self.origin}, {position(row if self.rows is None else int(self.rows[row]))}"


@dataclass(frozen=True)
class RawStream:
    """Rows of a split as record batches; each call of `batches` reads them from the first on.

    `documents`: each row is a whole document, whatever the data set's own rows are. `broken` says of each row read so far what
    could not be read, with its position; such a row is null. `where` is the position of a row of the batch that was read last.
    """

    batches: Callable[[], Iterator[pa.RecordBatch]]
    origin: str
    digest: str
    documents: bool = False
    broken: list[str] = field(default_factory=list)
    where: Callable[[int], str] | None = None


@dataclass(frozen=True)
class SplitSlice:
    """A split, or a slice of it in the notation of `datasets`: `train[:80%]`, `train[-20%:]`, `train[100:200]`."""

    split: str
    bounds: str = ""  # `[80%:]`

    @classmethod
    def parse(cls, text: str) -> "SplitSlice":
        match = re.fullmatch(r"([^\[]+)(\[(?:-?\d[\d_]*%?)?:(?:-?\d[\d_]*%?)?\])", text)
        return cls(*match.groups()) if match else cls(text)

    def indices(self, count: int) -> range:
        """Indices of the slice among `count` rows; percentages are rounded to the nearest row, and what is negative counts from
        the end. Of a slice that reaches beyond the rows those that there are."""
        start, stop = self._bounds(count)
        return range(count)[start:stop]

    def _bounds(self, count: int) -> tuple[int, int]:
        start, _, stop = self.bounds[1:-1].partition(":")
        return _row(start, 0, count), _row(stop, count, count)

    def apply(self, raw: RawTable) -> RawTable:
        """The rows of the slice."""
        if not self.bounds:
            return raw
        rows = self.indices(raw.table.num_rows)
        if any(abs(bound) > raw.table.num_rows for bound in self._bounds(raw.table.num_rows)):
            log.warning("%s%s reaches beyond the %d rows that there are", self.split, self.bounds, raw.table.num_rows)
        if len(rows) == raw.table.num_rows:
            return replace(raw, origin=f"{raw.origin}{self.bounds}")
        return RawTable(
            raw.table.slice(rows.start, len(rows)),
            f"{raw.origin}{self.bounds}",
            hashlib.sha256(f"{raw.digest}{self.bounds}".encode()).hexdigest(),
            raw.files,
            raw.first_row + rows.start,
            {row - rows.start: problem for row, problem in raw.broken.items() if row in rows},
        )


def _row(bound: str, default: int, count: int) -> int:
    return round(int(bound[:-1]) / 100 * count) if bound.endswith("%") else int(bound or default)  # int reads 1_000


class Source(Protocol):
    """Where data sets are read from."""

    def load(self, ref: DatasetRef, split: str) -> RawTable:
        """All rows of a split. Raises DataError when the split cannot be read."""
        ...

    def stream(self, ref: DatasetRef, split: str, columns: Sequence[str] | None = None) -> RawStream:
        """The same rows as record batches, of the named columns only. Raises DataError when they cannot be read."""
        ...

    def corpus(self) -> Iterable[str] | None:
        """Text to make a vocabulary from, where the source comes without a tokenizer; else None."""
        ...


def files_origin(paths: Sequence[Path], split: str) -> str:
    """The files of a split as one name for messages."""
    return str(paths[0] if len(paths) == 1 else paths[0].parent / f"{split}*")


def files_digest(paths: Sequence[Path], encoding: str | None) -> str:
    """Digest of what the files hold and of how they are read."""
    settings = [f"{base_suffix(path)} {file_digest(path)}" for path in paths]
    return hashlib.sha256("\n".join([encoding or "", *settings]).encode()).hexdigest()


def files_table(paths: Sequence[Path], origin: str, encoding: str | None) -> RawTable:
    """The rows of files, one after another."""
    files = [read_table(path, encoding) for path in paths]
    broken: dict[int, str] = {}
    first = 0
    for file in files:
        broken |= {first + row: problem for row, problem in file.broken.items()}
        first += file.table.num_rows
    table = joined([file.table for file in files])
    return RawTable(table, origin, files_digest(paths, encoding), files, broken=broken)


def files_stream(
    paths: Sequence[Path], origin: str, columns: Sequence[str] | None, encoding: str | None, *, documents: bool
) -> RawStream:
    """The rows of files, one after another, as a stream."""
    broken: list[str] = []
    where: Callable[[int], str] = str

    def batches() -> Iterator[pa.RecordBatch]:
        nonlocal where
        broken.clear()
        for path in paths:
            first = 0
            for each in read_batches(path, columns, encoding):
                where = partial(_where, path, each.lines, first)
                broken.extend(f"{where(row)}: {problem}" for row, problem in each.broken.items())
                first += each.batch.num_rows
                yield each.batch

    return RawStream(batches, origin, files_digest(paths, encoding), documents, broken, where=lambda row: where(row))


def _where(path: Path, lines: Sequence[int] | None, first: int, row: int) -> str:
    return f"{path}, {position(row, lines, first)}"


def table_stream(raw: RawTable, columns: Sequence[str] | None) -> RawStream:
    """A table as a stream, without copying its rows."""
    names = selected_columns(columns, raw.table.column_names, raw.origin)
    return RawStream(
        lambda: iter(raw.table.select(names).to_batches(max_chunksize=ROWS_PER_BATCH)),
        raw.origin,
        raw.digest,
        broken=[f"{raw.location(row)}: {problem}" for row, problem in sorted(raw.broken.items())],
    )
