"""Tokenised examples on disk: flat int arrays with offsets, memory-mapped, tokenised once.

The key is what can change the ids: file content, tokenizer content, settings, and the code that writes them. A cache is
written beside its place and renamed, so a half-written one is never taken for whole.
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
    """Rows as ids: row i holds `offsets[i]` to `offsets[i + 1]` of the flat arrays. All fields but `stats` are arrays."""

    ids: Int[ndarray, "tokens"]
    segment_ids: UInt8[ndarray, "tokens"]
    offsets: Int[ndarray, "rows_1"]
    stats: Mapping[str, Any] = field(default_factory=dict, kw_only=True)  # truncated, skipped, origin, digest

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> Int[ndarray, "rows"]:
        """Tokens of each row."""
        return np.diff(self.offsets)

    @classmethod
    def arrays(cls) -> list[str]:
        return [item.name for item in fields(cls) if item.name != "stats"]

    def with_stats(self, **more: Any) -> Self:
        return replace(self, stats={**self.stats, **more})


@dataclass(frozen=True)
class TokenTable(Table):
    """Labelled examples of one sequence each, or of several: one for each choice, or for each order of a pair.

    Sequence s of example i stands in row i x sequences + s of the flat arrays; `row` is an example's number in the file.
    """

    pooler_position: Int[ndarray, "rows"]
    labels: ndarray
    row: Int[ndarray, "examples"]

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def sequences(self) -> int:
        """Of each example."""
        return len(self.pooler_position) // len(self.labels)

    @property
    def lengths(self) -> Int[ndarray, "examples"]:
        """Tokens of all sequences of each example."""
        return np.diff(self.offsets).reshape(len(self.labels), -1).sum(1)


AnyTable = TypeVar("AnyTable", bound=Table)


def writer_digest() -> str:
    """Digest of the code that turns rows into ids."""
    return source_digest("data", "text")


def cached(folder: Path, settings: Mapping[str, Any], write: Callable[[], AnyTable], kind: type[AnyTable]) -> AnyTable:
    """The table that `settings` name, from disk, or else from `write`, kept for the next time."""
    key = hashlib.sha256(json.dumps([writer_digest(), settings], sort_keys=True).encode()).hexdigest()[:24]
    place = folder / "tokens" / key
    if not place.is_dir():
        save(write(), place)
    return load(place, kind)


def save(table: Table, place: Path) -> None:
    """Write the arrays atomically; where another process was quicker, its copy is kept."""
    with create_folder_atomically(place) as tmp:
        for name in table.arrays():
            np.save(tmp / f"{name}.npy", getattr(table, name), allow_pickle=False)
        (tmp / "stats.json").write_text(json.dumps(dict(table.stats)), encoding="utf-8")


def load(place: Path, kind: type[AnyTable]) -> AnyTable:
    arrays = {name: np.load(place / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in kind.arrays()}
    return kind(**arrays, stats=json.loads((place / "stats.json").read_text(encoding="utf-8")))
