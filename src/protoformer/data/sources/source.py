"""Where rows come from: the hub, a local folder in the hub's layout, the built-in sample, or files of text alone.

A split is read whole (`load`), or, where it may not fit in memory, as a stream of record batches (`stream`).
"""

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import pyarrow as pa

from protoformer.data.sources.readers import ROWS, wanted

Role = Literal["train", "validation", "test"]


@dataclass(frozen=True)
class RawTable:
    """Rows as they came, where they came from (for messages), and a digest of their content (for caches)."""

    table: pa.Table
    origin: str
    digest: str


@dataclass(frozen=True)
class Part:
    """The rows of a split, or of a part of it, as `datasets` writes it: `train[:80%]`, `train[80%:]`, `train[100:200]`."""

    split: str
    bounds: str = ""  # `[80%:]`

    @classmethod
    def of(cls, text: str) -> "Part":
        found = re.fullmatch(r"([^\[]+)(\[(?:\d+%?)?:(?:\d+%?)?\])", text)
        return cls(*found.groups()) if found else cls(text)

    def rows(self, count: int) -> range:
        """Which of `count` rows; shares are rounded to the nearest row."""
        begin, _, end = self.bounds[1:-1].partition(":")
        ends = [
            round(int(bound[:-1]) / 100 * count) if bound.endswith("%") else int(bound or default)
            for bound, default in ((begin, 0), (end, count))
        ]
        return range(count)[slice(*ends)]

    def taken(self, raw: RawTable) -> RawTable:
        if not self.bounds:
            return raw
        rows = self.rows(raw.table.num_rows)
        digest = hashlib.sha256(f"{raw.digest}{self.bounds}".encode()).hexdigest()
        return RawTable(raw.table.slice(rows.start, len(rows)), f"{raw.origin}{self.bounds}", digest)


@dataclass(frozen=True)
class RawStream:
    """Rows as they came, a record batch at a time; every call of `batches` reads them anew, from the first one on.

    `documents`: each row is a whole document, whatever is known of the data set that was asked for.
    """

    batches: Callable[[], Iterator[pa.RecordBatch]]
    origin: str
    digest: str
    documents: bool = False


class Source(Protocol):
    """A place that has data sets."""

    def load(self, dataset: str, subset: str | None, split: str, revision: str | None = None) -> RawTable:
        """All rows of one split. Raises DataError when it is not to be had."""
        ...

    def stream(
        self,
        dataset: str,
        subset: str | None,
        split: str,
        revision: str | None = None,
        columns: Sequence[str] | None = None,
    ) -> RawStream:
        """The same rows, never all at once, and of the columns only those named. Raises DataError when they are not to be
        had, here or when they are read."""
        ...

    def corpus(self) -> Iterator[str] | None:
        """Text to learn a vocabulary from, where the source brings no tokenizer of its own; else None."""
        ...


def _origin(paths: Sequence[Path], split: str) -> str:
    return str(paths[0] if len(paths) == 1 else paths[0].parent / f"{split}*")


def _table_stream(raw: RawTable, columns: Sequence[str] | None) -> RawStream:
    """A table's rows in pieces (no copy of them)."""
    names = wanted(columns, raw.table.column_names, raw.origin)
    return RawStream(lambda: iter(raw.table.select(names).to_batches(max_chunksize=ROWS)), raw.origin, raw.digest)
