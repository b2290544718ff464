"""From the documents of a corpus to shards: written once, each whole or not there.

Each is written beside its place and renamed; `index.json`, written last, says that there are no more. What they hold depends
on nothing but the documents and the settings, so an interrupted writing goes on after the shards that stand, and two
processes that write at once write the same.
"""

import hashlib
import json
import logging
import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy import ndarray

from protoformer.atomic import create_folder_atomically, write_text
from protoformer.data.corpus.shards import Shard, Shards, folder
from protoformer.errors import DataError
from protoformer.runs.digests import source_digest
from protoformer.text.sentences import pieces, sentences
from protoformer.text.tokenizers import Tokenizer

log = logging.getLogger(__name__)
CHARACTERS = 4_000_000  # of documents that are tokenised together
WORD_EVERY = 15.0  # seconds between two lines of the log
Cut = Literal["sentences", "text"]  # a document's sentences, or its whole text as it is
STALE = 3600.0  # seconds after which a shard being written is taken for left behind


class Texts(Protocol):
    """Documents that can be read again from the first one; `skipped` counts what was no document."""

    origin: str
    digest: str
    skipped: int

    def __iter__(self) -> Iterator[str]: ...


def writer_digest() -> str:
    """Digest of the code that turns documents into shards, and of nothing else: a corpus is dear to tokenise."""
    files = ("data/examples/documents.py", "data/sources/readers.py", "data/corpus/sharding.py")
    return source_digest(*files, "text/sentences.py", "text/tokenizers.py")


def shards(
    cache: Path, texts: Texts, tokenizer: Tokenizer, shard_tokens: int = 50_000_000, cut: Cut = "sentences"
) -> Shards:
    """The shards of `texts`, from disk, or else written now. Raises DataError where there is not one token."""
    settings = [writer_digest(), texts.digest, tokenizer.digest, shard_tokens, cut]
    place = cache / "corpora" / hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:24]
    if not (place / "index.json").exists():
        write(place, texts, tokenizer, shard_tokens, cut)
    return Shards(place)


def write(place: Path, texts: Texts, tokenizer: Tokenizer, shard_tokens: int, cut: Cut = "sentences") -> None:
    """All the shards that do not stand yet, and then the index."""
    place.mkdir(parents=True, exist_ok=True)
    standing = _standing(place)
    taken = standing[-1].stats["taken"] if standing else 0
    counts = [shard.counts for shard in standing]
    if standing:
        log.info("%s: continuing after %d documents (%d shards)", texts.origin, taken, len(standing))
    dtype = np.dtype(np.uint16 if tokenizer.vocab_size <= 1 << 16 else np.int32)
    shard, told = _Growing(taken), time.monotonic()
    for document in _encoded(islice(iter(texts), taken, None), tokenizer, cut):
        if shard.tokens and shard.tokens + sum(len(ids) for ids, _ in document) > shard_tokens:
            counts.append(shard.save(folder(place, len(counts)), dtype))
            shard = _Growing(shard.taken)
        shard.add(document)
        if time.monotonic() - told > WORD_EVERY:
            told = time.monotonic()
            held, tokens = (sum(count[i] for count in counts) for i in (0, 2))
            log.info("%s: %d documents, %d tokens so far", texts.origin, held + shard.held, tokens + shard.tokens)
    if shard.tokens:
        counts.append(shard.save(folder(place, len(counts)), dtype))
    if not counts:
        raise DataError(f"{texts.origin}: no tokens ({texts.skipped} rows are null or empty)")
    documents, sentence_count, tokens = map(sum, zip(*counts, strict=True))
    stats = {
        "origin": texts.origin,
        "digest": texts.digest,
        "shards": len(counts),
        "documents": documents,
        "sentences": sentence_count,
        "tokens": tokens,
        "skipped": texts.skipped + shard.taken - documents,  # also documents without a token
    }
    write_text(place / "index.json", json.dumps(stats))
    for stray in place.glob(".shard-*"):  # left behind by a process that was killed, unless it is alive and young
        if time.time() - stray.stat().st_mtime > STALE:
            shutil.rmtree(stray, ignore_errors=True)
    log.info("%s: tokenised into %d shards in %s", texts.origin, len(counts), place)


@dataclass
class _Growing:
    """A shard in memory. `taken` counts the documents that were read up to its end, also those without a token."""

    taken: int
    ids: list[ndarray] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)  # of sentences, in tokens
    bytes: list[int] = field(default_factory=list)  # of sentences, as UTF-8
    sentences: list[int] = field(default_factory=list)  # of documents
    tokens: int = 0

    @property
    def held(self) -> int:
        return len(self.sentences)

    def add(self, document: "Encoded") -> None:
        self.taken += 1
        if document:
            self.ids.append(np.asarray([number for sentence, _ in document for number in sentence], dtype=np.int32))
            self.lengths += (len(sentence) for sentence, _ in document)
            self.bytes += (size for _, size in document)
            self.sentences.append(len(document))
            self.tokens += len(self.ids[-1])

    def save(self, place: Path, dtype: np.dtype) -> tuple[int, int, int]:
        """Gives its counts: documents, sentences, tokens."""
        with create_folder_atomically(place) as tmp:
            np.save(tmp / "ids.npy", np.concatenate(self.ids).astype(dtype))
            np.save(tmp / "sentences.npy", np.concatenate([[0], np.cumsum(self.lengths)]))
            np.save(tmp / "bytes.npy", np.asarray(self.bytes, dtype=np.int32))
            np.save(tmp / "documents.npy", np.concatenate([[0], np.cumsum(self.sentences)]))
            (tmp / "stats.json").write_text(json.dumps({"taken": self.taken}), encoding="utf-8")
        return len(self.sentences), len(self.lengths), self.tokens


def _standing(place: Path) -> list[Shard]:
    """The shards that are whole, up to the first one that is not. What is half there (a disk that failed) is removed."""
    found: list[Shard] = []
    for where in sorted(place.glob("shard-*")):
        try:
            shard = Shard(where)
        except (OSError, ValueError, KeyError, IndexError):
            shutil.rmtree(where)
        else:
            if where == folder(place, len(found)):
                found.append(shard)
    return found


Encoded = list[tuple[list[int], int]]  # of a document: each sentence's ids, and its bytes


def _encoded(documents: Iterable[str], tokenizer: Tokenizer, cut: Cut) -> Iterator[Encoded]:
    """The sentences of each document as ids, those without a token left out; many documents are encoded at once.

    A sentence is encoded with a space before it, as it stands in running text: byte-level vocabularies tell words by it.
    """
    together: list[list[str]] = []
    size = 0
    for document in documents:
        together.append(pieces(document) if cut == "text" else [f" {sentence}" for sentence in sentences(document)])
        size += len(document)
        if size > CHARACTERS:
            yield from _encoded_together(together, tokenizer)
            together, size = [], 0
    yield from _encoded_together(together, tokenizer)


def _encoded_together(documents: Sequence[Sequence[str]], tokenizer: Tokenizer) -> Iterator[Encoded]:
    encoded = iter(tokenizer.encode([sentence for document in documents for sentence in document]))
    for document in documents:
        found = zip(document, islice(encoded, len(document)), strict=True)
        yield [(ids, len(sentence.encode())) for sentence, ids in found if ids]
