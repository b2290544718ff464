"""Tokenised examples on disk: flat int arrays with offsets, memory-mapped, tokenised once.

The key is what can change the ids: file content, tokenizer content, settings, and the code that encodes. A cache is written
beside its place and renamed, so an incomplete one is never read.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Self, TypeVar

import numpy as np
from jaxtyping import Int, UInt8
from numpy import ndarray

from protoformer.atomic import create_folder_atomically
from protoformer.runs.digests import source_digest


@dataclass(frozen=True)
class Table:
    """Rows as ids: row i is `ids[offsets[i] : offsets[i + 1]]`. All fields but `stats` are arrays.

    `stats` are counts (truncated, skipped, ...), and the origin and digest of the rows.
    """

    ids: Int[ndarray, "tokens"]
    segment_ids: UInt8[ndarray, "tokens"]
    offsets: Int[ndarray, "rows_1"]
    stats: Mapping[str, Any] = field(default_factory=dict, kw_only=True)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> Int[ndarray, "rows"]:
        """Tokens of each row."""
        return np.diff(self.offsets)

    @classmethod
    def array_names(cls) -> list[str]:
        return [item.name for item in fields(cls) if item.name != "stats"]

    def with_stats(self, **more: object) -> Self:
        return replace(self, stats={**self.stats, **more})


@dataclass(frozen=True)
class TokenTable(Table):
    """Labelled examples of one sequence each, or of several: one for each choice, or for each order of a pair.

    Sequence s of example i is row i x sequences + s of the flat arrays; `row` is an example's row number in the file.
    """

    pooler_position: Int[ndarray, "rows"]
    labels: ndarray
    row: Int[ndarray, "examples"]

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def sequences(self) -> int:
        """Sequences of each example."""
        return len(self.pooler_position) // len(self.labels)

    @property
    def lengths(self) -> Int[ndarray, "examples"]:
        """Tokens of all sequences of each example."""
        return np.diff(self.offsets).reshape(len(self.labels), -1).sum(1)


AnyTable = TypeVar("AnyTable", bound=Table)


def writer_digest() -> str:
    """Digest of the code that turns rows into ids."""
    return source_digest("data", "text")


def cached(
    cache: Path, settings: Mapping[str, object], encode: Callable[[], AnyTable], table_class: type[AnyTable]
) -> AnyTable:
    """The table of these settings, from disk or else from `encode`, then kept."""
    key = hashlib.sha256(json.dumps([writer_digest(), settings], sort_keys=True).encode()).hexdigest()[:24]
    folder = cache / "tokens" / key
    if not folder.is_dir():
        save(encode(), folder)
    return load(folder, table_class)


def save(table: Table, folder: Path) -> None:
    """Write the arrays atomically; where another process was quicker, its copy is kept."""
    with create_folder_atomically(folder) as tmp:
        for name in table.array_names():
            np.save(tmp / f"{name}.npy", getattr(table, name), allow_pickle=False)
        (tmp / "stats.json").write_text(json.dumps(dict(table.stats)), encoding="utf-8")


def load(folder: Path, table_class: type[AnyTable]) -> AnyTable:
    """A table whose arrays are memory-mapped."""
    arrays = {
        name: np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in table_class.array_names()
    }
    return table_class(**arrays, stats=json.loads((folder / "stats.json").read_text(encoding="utf-8")))
