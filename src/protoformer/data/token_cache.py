"""Tokenised examples on disk: flat int arrays with offsets, memory-mapped, tokenised once.

The key is what can change the ids: file content, tokenizer content, settings, and the code that writes them. A cache is
written beside its place and renamed, so a half-written one is never taken for whole.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int, UInt8
from numpy import ndarray

from protoformer.data import rows
from protoformer.text import formats, tokenizers


@dataclass(frozen=True)
class TokenTable:
    """Examples as ids. Example i holds `offsets[i]` to `offsets[i + 1]` of the flat arrays."""

    ids: Int[ndarray, "tokens"]
    segment_ids: UInt8[ndarray, "tokens"]
    offsets: Int[ndarray, "examples_1"]
    pooler_position: Int[ndarray, "examples"]
    labels: ndarray
    row: Int[ndarray, "examples"]
    facts: Mapping[str, Any] = field(default_factory=dict)  # truncated, skipped, origin, digest

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> Int[ndarray, "examples"]:
        """Tokens of each example."""
        return np.diff(self.offsets)


ARRAYS = ("ids", "segment_ids", "offsets", "pooler_position", "labels", "row")


@cache
def writer_digest() -> str:
    """Digest of the code that turns rows into ids."""
    digest = hashlib.sha256()
    for module in (rows, formats, tokenizers):
        digest.update(Path(str(module.__file__)).read_bytes())
    digest.update(Path(__file__).read_bytes())
    return digest.hexdigest()


def cached(folder: Path, settings: Mapping[str, Any], write: Callable[[], TokenTable]) -> TokenTable:
    """The table that `settings` name, from disk, or else from `write`, kept for the next time."""
    key = hashlib.sha256(json.dumps([writer_digest(), settings], sort_keys=True).encode()).hexdigest()[:24]
    place = folder / "tokens" / key
    if not place.is_dir():
        save(write(), place)
    return load(place)


def save(table: TokenTable, place: Path) -> None:
    """Write the arrays under a passing name, then rename; another process that was quicker keeps its copy."""
    place.parent.mkdir(parents=True, exist_ok=True)
    passing = Path(tempfile.mkdtemp(dir=place.parent, prefix=f".{place.name}-"))
    for name in ARRAYS:
        np.save(passing / f"{name}.npy", getattr(table, name), allow_pickle=False)
    (passing / "facts.json").write_text(json.dumps(dict(table.facts)), encoding="utf-8")
    try:
        os.replace(passing, place)
    except OSError:
        shutil.rmtree(passing)
        if not place.is_dir():
            raise


def load(place: Path) -> TokenTable:
    arrays = {name: np.load(place / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in ARRAYS}
    return TokenTable(**arrays, facts=json.loads((place / "facts.json").read_text(encoding="utf-8")))
