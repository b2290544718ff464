"""Source of data sets: the protocol, and what a source gives.

A split is read whole (`load`), or, where it may not fit in memory, as a stream of record batches (`stream`).
"""

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

import pyarrow as pa

from protoformer.data.sources.readers import ROWS_PER_BATCH, selected_columns

Role = Literal["train", "validation", "test"]


@dataclass(frozen=True)
class DatasetRef:
    """A data set by its name on the hub, its subset (None: its only one) and its revision (a commit; None: the newest)."""

    dataset: str
    subset: str | None = field(default=None, kw_only=True)
    revision: str | None = field(default=None, kw_only=True)


@dataclass(frozen=True)
class RawTable:
    """Rows of a split: the table, its origin (for messages), and a digest of its content (for caches)."""

    table: pa.Table
    origin: str
    digest: str


@dataclass(frozen=True)
class RawStream:
    """Rows of a split as record batches; each call of `batches` reads them from the first on.

    `documents`: each row is a whole document, whatever the data set's own rows are.
    """

    batches: Callable[[], Iterator[pa.RecordBatch]]
    origin: str
    digest: str
    documents: bool = False


@dataclass(frozen=True)
class SplitSlice:
    """A split, or a slice of it in the notation of `datasets`: `train[:80%]`, `train[80%:]`, `train[100:200]`."""

    split: str
    bounds: str = ""  # `[80%:]`

    @classmethod
    def parse(cls, text: str) -> "SplitSlice":
        match = re.fullmatch(r"([^\[]+)(\[(?:\d+%?)?:(?:\d+%?)?\])", text)
        return cls(*match.groups()) if match else cls(text)

    def indices(self, count: int) -> range:
        """Indices of the slice among `count` rows; percentages are rounded to the nearest row."""
        start, _, stop = self.bounds[1:-1].partition(":")
        return range(count)[_row(start, 0, count) : _row(stop, count, count)]

    def apply(self, raw: RawTable) -> RawTable:
        """The rows of the slice."""
        if not self.bounds:
            return raw
        rows = self.indices(raw.table.num_rows)
        digest = hashlib.sha256(f"{raw.digest}{self.bounds}".encode()).hexdigest()
        return RawTable(raw.table.slice(rows.start, len(rows)), f"{raw.origin}{self.bounds}", digest)


def _row(bound: str, default: int, count: int) -> int:
    return round(int(bound[:-1]) / 100 * count) if bound.endswith("%") else int(bound or default)


class Source(Protocol):
    """A place that holds data sets."""

    def load(self, ref: DatasetRef, split: str) -> RawTable:
        """All rows of a split. Raises DataError when the split cannot be read."""
        ...

    def stream(self, ref: DatasetRef, split: str, columns: Sequence[str] | None = None) -> RawStream:
        """The same rows as record batches, of the named columns only. Raises DataError when they cannot be read."""
        ...

    def corpus(self) -> Iterator[str] | None:
        """Text to make a vocabulary from, where the source comes without a tokenizer; else None."""
        ...


def files_origin(paths: Sequence[Path], split: str) -> str:
    """The files of a split as one name for messages."""
    return str(paths[0] if len(paths) == 1 else paths[0].parent / f"{split}*")


def table_stream(raw: RawTable, columns: Sequence[str] | None) -> RawStream:
    """A table as a stream, without copying its rows."""
    names = selected_columns(columns, raw.table.column_names, raw.origin)
    return RawStream(
        lambda: iter(raw.table.select(names).to_batches(max_chunksize=ROWS_PER_BATCH)), raw.origin, raw.digest
    )
