"""A corpus as token ids on disk, in shards that are read by memory map.

A shard holds flat ids, the offsets of its sentences in tokens and of its documents in sentences, and each sentence's length
in bytes. `sharding` writes them.
"""

import json
from bisect import bisect_right
from collections.abc import Mapping
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int
from numpy import ndarray

ARRAYS = ("ids", "sentences", "documents", "bytes")


def folder(place: Path, number: int) -> Path:
    """Of one shard."""
    return place / f"shard-{number:05d}"


class Shard:
    """One shard: its arrays, mapped from its folder. Raises OSError or ValueError where they are not whole."""

    ids: Int[ndarray, "tokens"]
    sentences: Int[ndarray, "sentences_1"]
    documents: Int[ndarray, "documents_1"]
    bytes: Int[ndarray, "sentences"]

    def __init__(self, where: Path) -> None:
        self.ids, self.sentences, self.documents, self.bytes = (
            # plain arrays over the maps: numpy's own class of them takes as long to slice as the rest of a batch
            np.asarray(np.load(where / f"{name}.npy", mmap_mode="r", allow_pickle=False))
            for name in ARRAYS
        )
        self.stats: dict[str, int] = json.loads((where / "stats.json").read_text(encoding="utf-8"))
        self._borders: ndarray | None = None
        ends = (self.documents[-1], self.documents[-1], self.sentences[-1])
        if ends != (len(self.sentences) - 1, len(self.bytes), len(self.ids)):
            raise ValueError(f"{where}: its arrays do not match")

    @property
    def counts(self) -> tuple[int, int, int]:
        """Documents, sentences, tokens."""
        return len(self.documents) - 1, len(self.sentences) - 1, len(self.ids)

    @property
    def borders(self) -> Int[ndarray, "documents_1"]:
        """Where each document begins, in tokens; and where the last one ends."""
        if self._borders is None:
            self._borders = np.asarray(self.sentences[self.documents])
        return self._borders


class Shards:
    """All of a corpus, as if it were one shard: tokens, sentences and documents are numbered over all of them."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.stats: Mapping[str, Any] = json.loads((place / "index.json").read_text(encoding="utf-8"))
        self.shards = [Shard(folder(place, number)) for number in range(self.stats["shards"])]
        counts = zip(*(shard.counts for shard in self.shards), strict=True)
        self._documents, self._sentences, self._tokens = ([0, *accumulate(count)] for count in counts)
        self.tokens, self.sentences, self.documents = self._tokens[-1], self._sentences[-1], self._documents[-1]

    def __reduce__(self) -> tuple[type["Shards"], tuple[Path]]:
        """By name: a worker maps the files itself."""
        return Shards, (self.place,)

    @property
    def sentence_starts(self) -> list[int]:
        """The number of each shard's first sentence."""
        return self._sentences[:-1]

    @property
    def digest(self) -> str:
        """The name of the folder: of all that the content depends on."""
        return self.place.name

    def ids(self, start: int, length: int) -> Int[ndarray, "tokens"]:
        """`length` tokens from number `start` on."""
        number = bisect_right(self._tokens, start) - 1
        pieces: list[ndarray] = []
        while length > 0:
            begin = start - self._tokens[number]
            piece = self.shards[number].ids[begin : begin + length]
            pieces.append(piece)
            start, length, number = start + len(piece), length - len(piece), number + 1
        whole = pieces[0] if len(pieces) == 1 else np.concatenate(pieces or [np.zeros(0, np.int32)])
        return whole.astype(np.int32)

    def document_sentences(self) -> Int[ndarray, "documents_1"]:
        """The number of each document's first sentence; and one past the last."""
        parts = [
            np.asarray(shard.documents[:-1], dtype=np.int64) + start
            for shard, start in zip(self.shards, self._sentences, strict=False)
        ]
        return np.concatenate([*parts, [self.sentences]])

    def sentence_tokens(self) -> Int[ndarray, "sentences_1"]:
        """The number of each sentence's first token; and one past the last."""
        parts = [
            np.asarray(shard.sentences[:-1], dtype=np.int64) + start
            for shard, start in zip(self.shards, self._tokens, strict=False)
        ]
        return np.concatenate([*parts, [self.tokens]])

    def sentence_bytes(self) -> Int[ndarray, "sentences"]:
        """Of each sentence, as UTF-8."""
        return np.concatenate([np.asarray(shard.bytes, dtype=np.int64) for shard in self.shards])

    def offsets(self, first: int, last: int) -> Int[ndarray, "sentences_1"]:
        """Where sentences `first` to `last` (one past the end) of one document begin, in tokens; and where they end."""
        number = bisect_right(self._sentences, first) - 1
        begin = first - self._sentences[number]
        found = self.shards[number].sentences[begin : begin + last - first + 1]
        return found.astype(np.int64) + self._tokens[number]

    def until(self, first: int, last: int, tokens: int) -> tuple[int, int]:
        """Where sentence `first` begins, and how long it is with those after it (before `last`) that bring it to `tokens`."""
        number = bisect_right(self._sentences, first) - 1
        begin = first - self._sentences[number]
        held = self.shards[number].sentences[begin : begin + last - first + 1]
        end = min(int(np.searchsorted(held, int(held[0]) + max(tokens, 1))), len(held) - 1)
        return int(held[0]) + self._tokens[number], int(held[end]) - int(held[0])

    def borders(self, start: int, length: int) -> Int[ndarray, "borders"]:
        """The documents' beginnings inside of `length` tokens from `start` on (not at their start), counted from there."""
        found: list[ndarray] = []
        for number in range(bisect_right(self._tokens, start) - 1, len(self.shards)):
            shift = start - self._tokens[number]
            if shift + length <= 0:
                break
            borders = self.shards[number].borders
            low, high = np.searchsorted(borders, [shift, shift + length], side="left")
            found.append(borders[low:high][:] - shift)
        inside = np.concatenate(found)
        # the end of one shard is the beginning of the next: each border once
        return np.unique(inside[(inside > 0) & (inside < length)])
