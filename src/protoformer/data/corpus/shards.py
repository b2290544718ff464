"""A corpus as token ids on disk, in shards that are memory-mapped.

A shard holds flat ids, the token offsets of its sentences, the sentence offsets of its documents, and each sentence's length in
bytes. `sharding` writes them.
"""

import json
from bisect import bisect_right
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int
from numpy import ndarray

ARRAYS = ("ids", "sentences", "documents", "bytes")


def shard_folder(corpus: Path, index: int) -> Path:
    """The folder of one shard."""
    return corpus / f"shard-{index:05d}"


class Shard:
    """One shard: its arrays, memory-mapped from its folder. Raises OSError or ValueError where they are incomplete."""

    ids: Int[ndarray, "tokens"]
    sentences: Int[ndarray, "sentences_1"]
    documents: Int[ndarray, "documents_1"]
    bytes: Int[ndarray, "sentences"]

    def __init__(self, folder: Path) -> None:
        self.ids, self.sentences, self.documents, self.bytes = (
            # plain arrays over the maps: slicing numpy's memmap class takes as long as the rest of a batch
            np.asarray(np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False))
            for name in ARRAYS
        )
        self.stats: dict[str, int] = json.loads((folder / "stats.json").read_text(encoding="utf-8"))
        self._document_starts: ndarray | None = None
        ends = (self.documents[-1], self.documents[-1], self.sentences[-1])
        if ends != (len(self.sentences) - 1, len(self.bytes), len(self.ids)):
            raise ValueError(f"{folder}: its arrays do not match")

    @property
    def counts(self) -> tuple[int, int, int]:
        """Documents, sentences, tokens."""
        return len(self.documents) - 1, len(self.sentences) - 1, len(self.ids)

    @property
    def document_starts(self) -> Int[ndarray, "documents_1"]:
        """Token offsets of the documents; and where the last one ends."""
        if self._document_starts is None:
            self._document_starts = np.asarray(self.sentences[self.documents])
        return self._document_starts


class Shards:
    """All shards of a corpus as one: tokens, sentences and documents are numbered over all of them.

    `origin` names the texts in messages (default: those that the shards were written from).
    """

    def __init__(self, folder: Path, origin: str | None = None) -> None:
        self.folder = folder
        self.stats: dict[str, Any] = json.loads((folder / "index.json").read_text(encoding="utf-8"))
        if origin is not None:
            self.stats["origin"] = origin
        self.shards = [Shard(shard_folder(folder, index)) for index in range(self.stats["shards"])]
        counts = zip(*(shard.counts for shard in self.shards), strict=True)
        # numbers of each shard's first document, sentence and token; and of them all
        self._documents, self._sentences, self._tokens = ([0, *accumulate(count)] for count in counts)
        self.tokens, self.sentences, self.documents = self._tokens[-1], self._sentences[-1], self._documents[-1]

    def __reduce__(self) -> tuple[type["Shards"], tuple[Path, str]]:
        """By its folder: a worker maps the files itself."""
        return Shards, (self.folder, self.stats["origin"])

    def named(self, origin: str) -> "Shards":
        """The same shards, of texts that have the same content under another name."""
        return Shards(self.folder, origin)

    @property
    def sentence_starts(self) -> list[int]:
        """The number of each shard's first sentence."""
        return self._sentences[:-1]

    @property
    def digest(self) -> str:
        """The name of the folder: a digest of all that the content depends on."""
        return self.folder.name

    def ids(self, start: int, length: int) -> Int[ndarray, "tokens"]:
        """`length` tokens from token `start` on."""
        index = bisect_right(self._tokens, start) - 1
        parts: list[ndarray] = []
        while length > 0:
            offset = start - self._tokens[index]
            part = self.shards[index].ids[offset : offset + length]
            parts.append(part)
            start, length, index = start + len(part), length - len(part), index + 1
        ids = parts[0] if len(parts) == 1 else np.concatenate(parts or [np.zeros(0, np.int32)])
        return ids.astype(np.int32)

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
        """The length of each sentence as UTF-8."""
        return np.concatenate([np.asarray(shard.bytes, dtype=np.int64) for shard in self.shards])

    def offsets(self, first: int, last: int) -> Int[ndarray, "sentences_1"]:
        """Token offsets of sentences `first` to `last` (one past the end) of one document; and where they end."""
        index = bisect_right(self._sentences, first) - 1
        start = first - self._sentences[index]
        offsets = self.shards[index].sentences[start : start + last - first + 1]
        return offsets.astype(np.int64) + self._tokens[index]

    def until(self, first: int, last: int, tokens: int) -> tuple[int, int]:
        """Token offset of sentence `first`, and the length with the sentences after it (before `last`) that reach `tokens`."""
        index = bisect_right(self._sentences, first) - 1
        start = first - self._sentences[index]
        offsets = self.shards[index].sentences[start : start + last - first + 1]
        end = min(int(np.searchsorted(offsets, int(offsets[0]) + max(tokens, 1))), len(offsets) - 1)
        return int(offsets[0]) + self._tokens[index], int(offsets[end]) - int(offsets[0])

    def document_boundaries(self, start: int, length: int) -> Int[ndarray, "boundaries"]:
        """Positions where documents begin inside of `length` tokens from token `start` on (not at their start)."""
        parts: list[ndarray] = []
        for index in range(bisect_right(self._tokens, start) - 1, len(self.shards)):
            offset = start - self._tokens[index]
            if offset + length <= 0:
                break
            document_starts = self.shards[index].document_starts
            low, high = np.searchsorted(document_starts, [offset, offset + length], side="left")
            parts.append(document_starts[low:high] - offset)
        positions = np.concatenate(parts)
        # the end of one shard is the start of the next: each boundary once
        return np.unique(positions[(positions > 0) & (positions < length)])
