"""Which tokens of a corpus make up one pretraining example: pairs for the next-sentence task, or packed full sentences.

Pairs as BERT's code makes them (create_pretraining_data.py; arXiv 1810.04805, appendix A.2): sentences are gathered up to a
target length, cut into A and B; half of the time B is replaced by text of another document and its sentences are put back.
Packs are RoBERTa's FULL-SENTENCES (arXiv 1907.11692, section 4.2).

Differs: a chunk of one sentence whose corpus has no other document becomes an example without a B (in BERT's code its B is
of the same document and called random). A pack ends where a shard does, and before a document that is held out.
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
from protoformer.data.corpus.shards import Shards
from protoformer.errors import DataError
from protoformer.text.templates import truncated_lengths

Side = Literal["train", "validation"]
ARRAYS = ("a_start", "a_length", "b_start", "b_length", "is_random")


@dataclass(frozen=True)
class Recipe:
    """How instances are made. `length` counts the special tokens. `short_share` of the documents have a shorter target, and
    of the packs in further passes."""

    length: int
    nsp: bool = True
    duplicates: int = 1
    held_out: float = 0.01
    short_share: float = 0.1
    seed: int = 0

    @property
    def room(self) -> int:
        """For text: without [CLS] and [SEP], and the second [SEP] of a pair."""
        return self.length - (3 if self.nsp else 2)


class Instances:
    """Where each example's A and B lie in the corpus, in tokens, mapped from a folder; a B of length 0 is none."""

    a_start: Int[ndarray, "instances"]
    a_length: Int[ndarray, "instances"]
    b_start: Int[ndarray, "instances"]
    b_length: Int[ndarray, "instances"]
    is_random: Bool[ndarray, "instances"]

    def __init__(self, place: Path) -> None:
        self.place = place
        for name in ARRAYS:
            setattr(self, name, np.asarray(np.load(place / f"{name}.npy", mmap_mode="r")))
        self.stats: Mapping[str, Any] = json.loads((place / "stats.json").read_text(encoding="utf-8"))

    def __len__(self) -> int:
        return len(self.a_start)

    def __reduce__(self) -> tuple[type["Instances"], tuple[Path]]:
        return Instances, (self.place,)


def sides(shards: Shards, share: float) -> tuple[Int[ndarray, "train 2"], Int[ndarray, "validation 2"]]:
    """The documents (first sentence, one past the last) to train on, and those that are held out.

    Where there are several, those whose numbers' hashes are least: at least one, of four at least two (so that a pair can
    have another document's text), never all. Of a single document its last sentences; nothing of a single sentence.
    """
    starts = shards.document_sentences()
    documents = np.stack([starts[:-1], starts[1:]], axis=1)
    nothing = documents[:0]
    if share <= 0:
        return documents, nothing
    if len(documents) == 1:
        kept = shards.sentences - min(max(1, round(share * shards.sentences)), shards.sentences - 1)
        if kept == shards.sentences:
            return documents, nothing
        return np.array([[0, kept]]), np.array([[kept, shards.sentences]])
    drawn = hashed(np.arange(len(documents)))
    ranks = drawn.argsort().argsort()
    held = ((drawn < share) | (ranks < (2 if len(documents) > 3 else 1))) & (ranks < len(documents) - 1)
    return documents[~held], documents[held]


def hashed(numbers: Int[ndarray, "numbers"]) -> ndarray:
    """Numbers between 0 and 1 that look drawn, the same ones always (the mixing of SplitMix64)."""
    mixed = numbers.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (mixed ^ (mixed >> np.uint64(31))) / 2.0**64


def instances(cache: Path, shards: Shards, recipe: Recipe, side: Side) -> Instances | None:
    """The table of one side, from disk, or else made now; None where nothing is held out to validate on.

    Raises DataError where a corpus gives no instance to train on.
    """
    code = Path(__file__).read_bytes()
    settings = [hashlib.sha256(code).hexdigest(), shards.digest, repr(recipe), side]
    place = cache / "corpora" / "instances" / hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:24]
    if not place.is_dir():
        train, held_out = sides(shards, recipe.held_out)
        documents = train if side == "train" else held_out
        table = _Growing()
        if len(documents):
            make(shards, documents, recipe, side, table)
        if not len(table) and side == "train":
            raise DataError(
                f"{shards.stats['origin']}: no training example of up to {recipe.length} tokens can be built"
            )
        if not len(table):
            return None
        held = shards.documents > 1
        table.stats |= {
            "instances": len(table),
            "held_out_documents": len(held_out) if held else 0,
            "held_out_sentences": int((held_out[:, 1] - held_out[:, 0]).sum()),
            "random": sum(table.columns["is_random"]),
            "truncated": table.truncated,
        }
        table.save(place)
    return Instances(place)


def make(shards: Shards, documents: Int[ndarray, "documents 2"], recipe: Recipe, side: Side, to: "_Growing") -> None:
    """All passes over the documents; a validation table is of one."""
    for number in range(recipe.duplicates if side == "train" else 1):
        random = Random(f"{recipe.seed}/{side}/{recipe.length}/{number}")
        if recipe.nsp:
            _pairs(shards, documents, recipe, random, to)
        else:
            # a further pass over the same text is cut elsewhere by some short packs, each for the few packs that follow
            _packs(shards, documents, recipe.room, recipe.short_share if number else 0.0, random, to)


def _pairs(
    shards: Shards, documents: Int[ndarray, "documents 2"], recipe: Recipe, random: Random, to: "_Growing"
) -> None:
    room = recipe.room

    def elsewhere(own: int, tokens: int) -> tuple[int, int]:
        """Text of another document, from any of its sentences on, of at least `tokens` tokens if it has them."""
        other = random.randrange(len(documents) - 1)
        first, last = documents[other + (other >= own)].tolist()
        return shards.until(random.randrange(first, last), last, tokens)

    for own, (first, last) in enumerate(documents.tolist()):
        ends = shards.offsets(first, last).tolist()
        target = random.randint(2, room) if random.random() < recipe.short_share else room
        for start, cut, end, is_random in _chunks(ends, target, len(documents) > 1, random):
            a, length_a = ends[start], ends[cut] - ends[start]
            b, length_b = elsewhere(own, target - length_a) if is_random else (ends[cut], ends[end] - ends[cut])
            kept_a, kept_b = truncated_lengths(length_a, length_b, room)
            to.truncated += (kept_a, kept_b) != (length_a, length_b)
            a, b = a + _front(length_a - kept_a, random), b + _front(length_b - kept_b, random)
            to.add(a, kept_a, b, kept_b, is_random)


def _chunks(ends: list[int], target: int, others: bool, random: Random) -> Iterator[tuple[int, int, int, bool]]:
    """One document's sentences, `target` tokens at a time: where a chunk starts, where its B does, where it ends (in
    sentences), and whether another document's text takes B's place, so that B's sentences are used again."""
    start, last = 0, len(ends) - 1
    while start < last:
        end = start + 1
        while end < last and ends[end] - ends[start] < target:
            end += 1
        cut = random.randint(start + 1, end - 1) if end - start > 1 else end
        is_random = others and (cut == end or random.random() < 0.5)
        yield start, cut, end, is_random
        start = cut if is_random else end


def _front(excess: int, random: Random) -> int:
    """How many of the tokens that have to go leave the front: each goes there or from the back, as a coin says."""
    return random.getrandbits(excess).bit_count() if excess else 0


def _packs(
    shards: Shards,
    documents: Int[ndarray, "documents 2"],
    room: int,
    short_share: float,
    random: Random,
    to: "_Growing",
) -> None:
    """Sentences in order, also over a document's end, which costs a separator. One longer than a pack is cut into several."""
    gaps = documents[1:, 0] != documents[:-1, 1]
    ends_shard = np.isin(documents[:-1, 1], shards.sentence_starts)
    for run in np.split(documents, np.flatnonzero(gaps | ends_shard) + 1):
        offsets = shards.offsets(int(run[0, 0]), int(run[-1, 1]))
        document = np.repeat(np.arange(len(run)), run[:, 1] - run[:, 0])  # of each sentence
        costs = offsets[1:] + document  # with the separators before
        at, sentence = int(offsets[0]), 0
        while sentence < len(document):
            target = random.randint(2, room) if short_share and random.random() < short_share else room
            fits = int(np.searchsorted(costs, at + document[sentence] + target, side="right"))
            end = int(offsets[fits]) if fits > sentence else at + target
            to.add(at, end - at, 0, 0, False)
            at, sentence = end, max(fits, sentence)


class _Growing:
    """A table in memory, compact: there are as many instances as a corpus has paragraphs."""

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

    def save(self, place: Path) -> None:
        with create_folder_atomically(place) as tmp:
            for name, column in self.columns.items():
                values = np.frombuffer(column, dtype=np.int64 if column.typecode == "q" else np.int32)
                np.save(tmp / f"{name}.npy", values.astype(bool) if name == "is_random" else values)
            (tmp / "stats.json").write_text(json.dumps(self.stats), encoding="utf-8")
