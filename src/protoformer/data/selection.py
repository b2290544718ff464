"""Parts of splits: slices, folds, rows that are held out, and sums of them.

    train                                   a whole split
    train[:80%], train[80%:], train[10:20]  a slice, in the notation of `datasets`
    train[:20%]+train[40%:]                 a sum, of parts that share no row
    train[fold 0/5, seed 0]                 the first of five folds; `all but fold 0/5` are the other rows
    train[10% held out, seed 0]             rows drawn by chance; `all but 10% held out` are the other rows

Folds of one seed are disjoint and together every row. They are stratified by the label where a reader names one, and rows that
share what a reader groups by (the context of a question) stay together.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
import pyarrow as pa
from jaxtyping import Int
from numpy import ndarray

from protoformer.data.examples.labels import label_words
from protoformer.data.sources.rows import joined
from protoformer.data.sources.source import DatasetRef, RawTable, Source, SplitSlice
from protoformer.errors import DataError

DRAWN = re.compile(r"([^\[]+)\[(all but )?(?:fold (\d+)/(\d+)|([\d.]+)% held out), seed (\d+)\]")


@dataclass(frozen=True)
class DrawnPart:
    """Rows of a split that a seed draws, or all others. `bounds` is the part as it is written."""

    split: str
    bounds: str
    others: bool
    fraction: Fraction
    fold: int
    seed: int

    @classmethod
    def parse(cls, text: str) -> "DrawnPart | None":
        match = DRAWN.fullmatch(text)
        if match is None:
            return None
        split, others, fold, folds, percent, seed = match.groups()
        fraction = Fraction(1, int(folds)) if folds else Fraction(percent) / 100
        return cls(split, text.removeprefix(split), bool(others), fraction, int(fold or 0), int(seed))

    def size(self, count: int) -> int:
        """How many of `count` ungrouped rows these are."""
        drawn = len(self._positions(count))
        return count - drawn if self.others else drawn

    def rows(self, raw: RawTable, reader: DatasetRef) -> Int[ndarray, "rows"]:
        """Numbers of the rows, in order. Raises DataError where there are too few rows to draw from."""
        count = raw.table.num_rows
        units = _codes(raw.table, reader.grouped_by) if reader.grouped_by else np.arange(count)
        n_units = int(units.max(initial=-1)) + 1
        if n_units < (2 if "held out" in self.bounds else self.fraction.denominator):
            what = f"different {reader.grouped_by}" if reader.grouped_by else "rows"
            raise DataError(f"{raw.origin}: {n_units} {what} are too few for {self.bounds}")
        order = np.random.default_rng(self.seed).permutation(n_units)
        if reader.stratified_by in raw.table.column_names and not reader.grouped_by:
            codes = _codes(raw.table, str(reader.stratified_by))
            order = order[np.argsort(codes[order], kind="stable")]
        is_drawn = np.zeros(n_units, dtype=bool)
        is_drawn[order[self._positions(n_units)]] = True
        return np.flatnonzero(is_drawn[units] != self.others)

    def _positions(self, count: int) -> Int[ndarray, "drawn"]:
        """Positions, evenly spread over an order of rows: of each label its part."""
        if self.fraction.numerator == 1:
            return np.arange(self.fold, count, self.fraction.denominator)
        drawn = max(1, round(count * self.fraction))
        return np.arange(drawn) * count // drawn


@dataclass(frozen=True)
class SplitSelection:
    """A split, a part of one, or a sum of such."""

    parts: tuple[SplitSlice | DrawnPart, ...]

    @classmethod
    def parse(cls, text: str) -> "SplitSelection":
        """Raises DataError for brackets in another notation."""
        words = [word.strip() for word in re.split(r"(?<=[^+])\+(?=[^+])", text)]
        parts = tuple(DrawnPart.parse(word) or SplitSlice.parse(word) for word in words)
        if wrong := next((part for part in parts if "[" in part.split), None):
            raise DataError(
                f"{wrong.split}: not a part of a split; write {wrong.split.partition('[')[0] or 'train'}[:80%], [80%:], "
                "[-100:] or [100:200], of whole numbers"
            )
        return cls(parts)

    @property
    def splits(self) -> list[str]:
        """Names of the whole splits that these are parts of."""
        return list(dict.fromkeys(part.split for part in self.parts))

    def size(self, counts: Sequence[int]) -> int:
        """How many rows these are, from the rows of each of `splits`."""
        of = dict(zip(self.splits, counts, strict=True))
        return sum(
            part.size(of[part.split]) if isinstance(part, DrawnPart) else len(part.indices(of[part.split]))
            for part in self.parts
        )

    def load(self, source: Source, reader: DatasetRef) -> RawTable:
        """The rows, in order of the parts. Raises DataError for a row that is in two of them."""
        whole = {split: source.load(reader, split) for split in self.splits}
        if len(self.parts) == 1 and isinstance(self.parts[0], SplitSlice):
            return self.parts[0].apply(whole[self.parts[0].split])
        first = dict(zip(whole, np.cumsum([0, *(raw.table.num_rows for raw in whole.values())]), strict=False))
        numbers = np.concatenate(
            [_rows(part, whole[part.split], reader) + first[part.split] for part in self.parts]
        ).astype(np.int64)
        text = "+".join(f"{part.split}{part.bounds}" for part in self.parts)
        if len(np.unique(numbers)) < len(numbers):
            raise DataError(f"{text}: a row is in two of these parts; name each row once")
        return _taken(list(whole.values()), numbers, text)


def _rows(part: SplitSlice | DrawnPart, raw: RawTable, reader: DatasetRef) -> Int[ndarray, "rows"]:
    return part.rows(raw, reader) if isinstance(part, DrawnPart) else np.asarray(part.indices(raw.table.num_rows))


def _taken(whole: Sequence[RawTable], numbers: Int[ndarray, "rows"], text: str) -> RawTable:
    """Rows of several tables, by their numbers in all of them together."""
    table = joined([raw.table for raw in whole]) if len(whole) > 1 else whole[0].table
    broken: dict[int, str] = {}
    first = 0
    for raw in whole:
        broken |= {first + row: problem for row, problem in raw.broken.items()}
        first += raw.table.num_rows
    has_files = all(raw.files for raw in whole)
    origins = [raw.origin for raw in whole]
    bounds = text.partition("[")[1] + text.partition("[")[2] if len(whole) == 1 else ""
    return replace(
        whole[0],
        table=table.take(pa.array(numbers)),
        origin=f"{' + '.join(origins)}{bounds}",
        digest=hashlib.sha256("\0".join([*(raw.digest for raw in whole), text]).encode()).hexdigest(),
        files=[file for raw in whole for file in raw.files] if has_files else (),
        rows=numbers.tolist(),
        broken={new: broken[row] for new, row in enumerate(numbers.tolist()) if row in broken},
    )


def _codes(table: pa.Table, column: str) -> Int[ndarray, "rows"]:
    """The values of a column as numbers from 0; equal words have the same."""
    words = label_words(table.column(column))
    values = words[0] if words is not None else [str(value) for value in table.column(column).to_pylist()]
    return np.unique(np.asarray(values, dtype=object).astype(str), return_inverse=True)[1]
