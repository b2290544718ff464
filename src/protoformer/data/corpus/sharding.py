"""From the documents of a corpus to shards on disk, each complete or absent.

Shards are written beside their place and renamed; `index.json`, written last, says that there are no more. Their content
depends on the documents and the settings alone, so an interrupted run continues after the complete shards, and two processes
that write at once write the same.
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

from protoformer.atomic import create_folder_atomically, remove_abandoned, write_text
from protoformer.data.corpus.shards import Shard, Shards, shard_folder
from protoformer.errors import DataError
from protoformer.runs.digests import source_digest
from protoformer.text.sentences import pieces, sentences
from protoformer.text.tokenizers import Tokenizer

log = logging.getLogger(__name__)
CHARS_PER_CHUNK = 4_000_000  # of documents that are tokenised at once
LOG_EVERY = 15.0  # seconds
Segmentation = Literal["sentences", "text"]  # a document's sentences, or its whole text
EncodedDocument = list[tuple[list[int], int]]  # each sentence's ids, and its length in bytes


class Texts(Protocol):
    """Documents that can be read again from the first; `skipped` counts rows that were no document."""

    origin: str
    digest: str
    skipped: int

    def __iter__(self) -> Iterator[str]: ...


def writer_digest() -> str:
    """Digest of the code that turns documents into shards, and of nothing else: a corpus takes long to tokenise."""
    files = ("data/examples/documents.py", "data/examples/values.py", "data/sources", "data/corpus/sharding.py")
    return source_digest(*files, "text/sentences.py", "text/tokenizers.py")


def shards(
    cache: Path,
    texts: Texts,
    tokenizer: Tokenizer,
    shard_tokens: int = 50_000_000,
    segmentation: Segmentation = "sentences",
) -> Shards:
    """The shards of `texts`, from disk or written now. Raises DataError where there is not one token."""
    settings = [writer_digest(), texts.digest, tokenizer.digest, shard_tokens, segmentation]
    folder = cache / "corpora" / hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:24]
    if not (folder / "index.json").exists():
        write_shards(folder, texts, tokenizer, shard_tokens, segmentation)
    return Shards(folder)


def write_shards(
    folder: Path, texts: Texts, tokenizer: Tokenizer, shard_tokens: int, segmentation: Segmentation = "sentences"
) -> None:
    """Write all shards that are not there yet, and then the index."""
    folder.mkdir(parents=True, exist_ok=True)
    complete = _complete_shards(folder)
    documents_read = complete[-1].stats["documents_read"] if complete else 0
    counts = [shard.counts for shard in complete]
    if complete:
        log.info("%s: continuing after %d documents (%d shards)", texts.origin, documents_read, len(complete))
    dtype = np.dtype(np.uint16 if tokenizer.vocab_size <= 1 << 16 else np.int32)
    builder, logged_at = _ShardBuilder(documents_read), time.monotonic()
    for document in _encode(islice(iter(texts), documents_read, None), tokenizer, segmentation):
        if builder.tokens and builder.tokens + sum(len(ids) for ids, _ in document) > shard_tokens:
            counts.append(builder.save(shard_folder(folder, len(counts)), dtype))
            builder = _ShardBuilder(builder.documents_read)
        builder.add(document)
        if time.monotonic() - logged_at > LOG_EVERY:
            logged_at = time.monotonic()
            documents = sum(count[0] for count in counts) + len(builder.sentences)
            tokens = sum(count[2] for count in counts) + builder.tokens
            log.info("%s: %d documents, %d tokens so far", texts.origin, documents, tokens)
    if builder.tokens:
        counts.append(builder.save(shard_folder(folder, len(counts)), dtype))
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
        "skipped": texts.skipped + builder.documents_read - documents,  # also documents without a token
    }
    write_text(folder / "index.json", json.dumps(stats))
    remove_abandoned(folder)
    log.info("%s: tokenised into %d shard%s in %s", texts.origin, len(counts), "s" * (len(counts) != 1), folder)


@dataclass
class _ShardBuilder:
    """A shard in memory. `documents_read` counts the documents read up to its end, also those without a token."""

    documents_read: int
    ids: list[ndarray] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)  # of sentences, in tokens
    bytes: list[int] = field(default_factory=list)  # of sentences, as UTF-8
    sentences: list[int] = field(default_factory=list)  # of documents
    tokens: int = 0

    def add(self, document: EncodedDocument) -> None:
        self.documents_read += 1
        if document:
            self.ids.append(np.asarray([token_id for ids, _ in document for token_id in ids], dtype=np.int32))
            self.lengths += (len(ids) for ids, _ in document)
            self.bytes += (size for _, size in document)
            self.sentences.append(len(document))
            self.tokens += len(self.ids[-1])

    def save(self, folder: Path, dtype: np.dtype) -> tuple[int, int, int]:
        """Write the shard; returns its counts of documents, sentences and tokens."""
        with create_folder_atomically(folder) as tmp:
            np.save(tmp / "ids.npy", np.concatenate(self.ids).astype(dtype))
            np.save(tmp / "sentences.npy", np.concatenate([[0], np.cumsum(self.lengths)]))
            np.save(tmp / "bytes.npy", np.asarray(self.bytes, dtype=np.int32))
            np.save(tmp / "documents.npy", np.concatenate([[0], np.cumsum(self.sentences)]))
            (tmp / "stats.json").write_text(json.dumps({"documents_read": self.documents_read}), encoding="utf-8")
        return len(self.sentences), len(self.lengths), self.tokens


def _complete_shards(folder: Path) -> list[Shard]:
    """The complete shards, up to the first that is missing. Incomplete ones (a disk that failed) are removed."""
    complete: list[Shard] = []
    for path in sorted(folder.glob("shard-*")):
        try:
            shard = Shard(path)
        except (OSError, ValueError, KeyError, IndexError):
            shutil.rmtree(path)
        else:
            if path == shard_folder(folder, len(complete)):
                complete.append(shard)
    return complete


def _encode(documents: Iterable[str], tokenizer: Tokenizer, segmentation: Segmentation) -> Iterator[EncodedDocument]:
    """The sentences of each document as ids, without empty ones; many documents are tokenised at once.

    A sentence is encoded with a space before it, as in running text: byte-level vocabularies tell words by it.
    """
    chunk: list[list[str]] = []
    size = 0
    for document in documents:
        if segmentation == "text":
            chunk.append(pieces(document))
        else:
            chunk.append([f" {sentence}" for sentence in sentences(document)])
        size += len(document)
        if size > CHARS_PER_CHUNK:
            yield from _encode_chunk(chunk, tokenizer)
            chunk, size = [], 0
    yield from _encode_chunk(chunk, tokenizer)


def _encode_chunk(documents: Sequence[Sequence[str]], tokenizer: Tokenizer) -> Iterator[EncodedDocument]:
    encoded = iter(tokenizer.encode([sentence for document in documents for sentence in document]))
    for document in documents:
        pairs = zip(document, islice(encoded, len(document)), strict=True)
        yield [(ids, len(sentence.encode())) for sentence, ids in pairs if ids]
