"""Pretraining instances: which tokens of a corpus make up one, a sentence pair or a pack of full sentences.

Pairs as BERT's code makes them (create_pretraining_data.py; arXiv 1810.04805, appendix A.2): sentences are gathered up to a
target length and cut into A and B. Half of the time B is replaced by text of another document, and its sentences are used
again. Packs are RoBERTa's FULL-SENTENCES (arXiv 1907.11692, section 4.2).

Differs: a chunk of one sentence whose corpus has no other document becomes an instance without B (in BERT's code its B is of
the same document and called random). A pack ends where a shard does, and before a held-out document.
"""

import hashlib
import json
from array import array
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Int
from numpy import ndarray

from protoformer.atomic import create_folder_atomically
from protoformer.data.corpus.held_out import train_validation_split
from protoformer.data.corpus.shards import Shards
from protoformer.errors import DataError
from protoformer.runs.digests import source_digest
from protoformer.text.templates import truncated_lengths

CorpusSplit = Literal["train", "validation"]
ARRAYS = ("a_start", "a_length", "b_start", "b_length", "is_random")


@dataclass(frozen=True)
class InstanceConfig:
    """How instances are made. `length` counts the special tokens.

    A fraction `short_share` of the documents (of the packs, in passes after the first) has a shorter target length.
    `duplicates` is the number of passes over the corpus.
    """

    length: int
    nsp: bool = True
    duplicates: int = 1
    held_out: float = 0.01
    short_share: float = 0.1
    seed: int = 0

    @property
    def max_tokens(self) -> int:
        """Tokens of text: without [CLS] and [SEP], and the second [SEP] of a pair."""
        return self.length - (3 if self.nsp else 2)


class Instances:
    """Token offsets and lengths of each instance's A and B in the corpus, memory-mapped; a B of length 0 is none."""

    a_start: Int[ndarray, "instances"]
    a_length: Int[ndarray, "instances"]
    b_start: Int[ndarray, "instances"]
    b_length: Int[ndarray, "instances"]
    is_random: Bool[ndarray, "instances"]

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ARRAYS:
            setattr(self, name, np.asarray(np.load(folder / f"{name}.npy", mmap_mode="r")))
        self.stats: Mapping[str, Any] = json.loads((folder / "stats.json").read_text(encoding="utf-8"))

    def __len__(self) -> int:
        return len(self.a_start)

    def __reduce__(self) -> tuple[type["Instances"], tuple[Path]]:
        return Instances, (self.folder,)


def writer_digest() -> str:
    """Digest of the code that makes instances."""
    return source_digest("data/corpus/sentence_pairs.py", "data/corpus/held_out.py", "text/templates.py")


def instances(cache: Path, corpus: Shards, config: InstanceConfig, split: CorpusSplit) -> Instances | None:
    """The instances of one split, from disk or made now; None where nothing is held out to validate on.

    Raises DataError where a corpus gives no instance to train on.
    """
    settings = [writer_digest(), corpus.digest, repr(config), split]
    folder = cache / "corpora" / "instances" / hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:24]
    if not folder.is_dir():
        train, held_out = train_validation_split(corpus, config.held_out)
        documents = train if split == "train" else held_out
        builder = _InstancesBuilder()
        if len(documents):
            make_instances(corpus, documents, config, split, builder)
        if not len(builder) and split == "train":
            origin = corpus.stats["origin"]
            raise DataError(f"{origin}: no training example of up to {config.length} tokens can be built")
        if not len(builder):
            return None
        builder.stats |= {
            "instances": len(builder),
            "held_out_documents": len(held_out) if corpus.documents > 1 else 0,
            "held_out_sentences": int((held_out[:, 1] - held_out[:, 0]).sum()),
            "random": sum(builder.columns["is_random"]),
            "truncated": builder.truncated,
        }
        builder.save(folder)
    return Instances(folder)


def make_instances(
    corpus: Shards,
    documents: Int[ndarray, "documents 2"],
    config: InstanceConfig,
    split: CorpusSplit,
    builder: "_InstancesBuilder",
) -> None:
    """Add the instances of all passes over the documents; a validation split has one pass."""
    for pass_index in range(config.duplicates if split == "train" else 1):
        random = Random(f"{config.seed}/{split}/{config.length}/{pass_index}")
        if config.nsp:
            _add_pairs(corpus, documents, config, random, builder)
        else:
            # a short pack now and then, so that each further pass over the same text is cut elsewhere
            short_share = config.short_share if pass_index else 0.0
            _add_packs(corpus, documents, config.max_tokens, short_share, random, builder)


def _add_pairs(
    corpus: Shards,
    documents: Int[ndarray, "documents 2"],
    config: InstanceConfig,
    random: Random,
    builder: "_InstancesBuilder",
) -> None:
    max_tokens = config.max_tokens

    def other_document(this: int, tokens: int) -> tuple[int, int]:
        """Text of another document, from any of its sentences on, of at least `tokens` tokens if it has them."""
        other = random.randrange(len(documents) - 1)
        first, last = documents[other + (other >= this)].tolist()
        return corpus.until(random.randrange(first, last), last, tokens)

    for document, (first, last) in enumerate(documents.tolist()):
        offsets = corpus.offsets(first, last).tolist()
        target = random.randint(2, max_tokens) if random.random() < config.short_share else max_tokens
        for chunk in _chunks(offsets, target, len(documents) > 1, random):
            a, a_length = offsets[chunk.start], offsets[chunk.cut] - offsets[chunk.start]
            b, b_length = offsets[chunk.cut], offsets[chunk.end] - offsets[chunk.cut]
            if chunk.is_random:
                b, b_length = other_document(document, target - a_length)
            a_kept, b_kept = truncated_lengths(a_length, b_length, max_tokens)
            builder.truncated += int((a_kept, b_kept) != (a_length, b_length))
            a += _removed_in_front(a_length - a_kept, random)
            b += _removed_in_front(b_length - b_kept, random)
            builder.add(a, a_kept, b, b_kept, chunk.is_random)


@dataclass(frozen=True)
class _Chunk:
    """Sentences of a document: A from `start` to `cut`, B from `cut` to `end`, unless it is of another document."""

    start: int
    cut: int
    end: int
    is_random: bool


def _chunks(offsets: list[int], target: int, has_others: bool, random: Random) -> Iterator[_Chunk]:
    """One document's sentences, `target` tokens at a time. Sentences whose place a random B takes are used again."""
    start, last = 0, len(offsets) - 1
    while start < last:
        end = start + 1
        while end < last and offsets[end] - offsets[start] < target:
            end += 1
        cut = random.randint(start + 1, end - 1) if end - start > 1 else end
        is_random = has_others and (cut == end or random.random() < 0.5)
        yield _Chunk(start, cut, end, is_random)
        start = cut if is_random else end


def _removed_in_front(excess: int, random: Random) -> int:
    """How many of the excess tokens are removed in front: a coin decides for each between front and back."""
    return random.getrandbits(excess).bit_count() if excess else 0


def _add_packs(
    corpus: Shards,
    documents: Int[ndarray, "documents 2"],
    max_tokens: int,
    short_share: float,
    random: Random,
    builder: "_InstancesBuilder",
) -> None:
    """Sentences in order, also over a document's end, which costs a separator. A sentence longer than a pack is cut."""
    is_gap = documents[1:, 0] != documents[:-1, 1]  # a held-out document between two documents
    ends_shard = np.isin(documents[:-1, 1], corpus.sentence_starts)
    for run in np.split(documents, np.flatnonzero(is_gap | ends_shard) + 1):
        offsets = corpus.offsets(int(run[0, 0]), int(run[-1, 1]))
        document = np.repeat(np.arange(len(run)), run[:, 1] - run[:, 0])  # of each sentence
        costs = offsets[1:] + document  # token offset of each sentence's end, with the separators before it
        start, sentence = int(offsets[0]), 0
        while sentence < len(document):
            is_short = bool(short_share) and random.random() < short_share
            target = random.randint(2, max_tokens) if is_short else max_tokens
            fitting = int(np.searchsorted(costs, start + document[sentence] + target, side="right"))
            end = int(offsets[fitting]) if fitting > sentence else start + target
            builder.add(start, end - start, 0, 0, False)
            start, sentence = end, max(fitting, sentence)


class _InstancesBuilder:
    """Instances in memory, in compact arrays: there are as many as a corpus has paragraphs."""

    def __init__(self) -> None:
        self.columns = {name: array("q" if name.endswith("start") else "i") for name in ARRAYS}
        self._appends: list[Callable[[int], None]] = [column.append for column in self.columns.values()]
        self.truncated = 0
        self.stats: dict[str, Any] = {}

    def __len__(self) -> int:
        return len(self.columns["a_start"])

    def add(self, *values: int) -> None:
        """An instance, its values in the order of ARRAYS."""
        for append, value in zip(self._appends, values, strict=True):
            append(value)

    def save(self, folder: Path) -> None:
        with create_folder_atomically(folder) as tmp:
            for name, column in self.columns.items():
                values = np.frombuffer(column, dtype=np.int64 if column.typecode == "q" else np.int32)
                np.save(tmp / f"{name}.npy", values.astype(bool) if name == "is_random" else values)
            (tmp / "stats.json").write_text(json.dumps(self.stats), encoding="utf-8")
