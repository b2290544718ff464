"""A corpus on disk: nothing is lost, what is half written is never taken for whole, and two writers agree."""

import json
import os
import pickle
from collections.abc import Iterator
from itertools import pairwise
from multiprocessing import get_context
from multiprocessing.synchronize import Barrier
from pathlib import Path

import numpy as np
import pytest

from protoformer.data.corpus import sharding
from protoformer.data.corpus.sharding import shards
from protoformer.data.corpus.shards import Shards
from protoformer.errors import DataError
from protoformer.text.tokenizers import Tokenizer, whole_word_tokenizer

WORDS = [f"w{number}" for number in range(40)]


class Texts:
    """Documents from a list; breaks off before number `breaks`."""

    origin, digest, skipped = "here", "digest", 0

    def __init__(self, documents: list[str], breaks: int | None = None) -> None:
        self.documents, self.breaks = documents, breaks

    def __iter__(self) -> Iterator[str]:
        for number, document in enumerate(self.documents):
            if number == self.breaks:
                raise KeyboardInterrupt
            yield document


def tokenizer() -> Tokenizer:
    return whole_word_tokenizer([" ".join(WORDS)], "here")


def documents(count: int = 30, seed: int = 0) -> list[str]:
    random = np.random.default_rng(seed)
    return [
        "\n".join(" ".join(random.choice(WORDS, random.integers(1, 9))) for _ in range(random.integers(1, 6)))
        for _ in range(count)
    ]


@pytest.mark.parametrize("shard_tokens", [1, 50, 10_000])
def test_what_was_written_is_read(tmp_path: Path, shard_tokens: int) -> None:
    texts, words = documents(), tokenizer()
    held = shards(tmp_path, Texts([*texts[:9], " \n", *texts[9:]]), words, shard_tokens)
    assert (held.documents, held.stats["skipped"]) == (30, 1)
    assert held.stats["shards"] == {1: 30, 10_000: 1}.get(shard_tokens, held.stats["shards"])
    assert (held.stats["shards"] > 2) == (shard_tokens < 10_000)
    assert all(len(shard.ids) <= shard_tokens or len(shard.documents) == 2 for shard in held.shards)
    assert {shard.ids.dtype for shard in held.shards} == {np.dtype(np.uint16)}
    assert words.decode(held.ids(0, held.tokens).tolist()).split() == " ".join(texts).split()
    first = held.document_sentences()
    boundaries = []
    for number, text in enumerate(texts):
        offsets = held.offsets(int(first[number]), int(first[number + 1]))
        told = [words.decode(held.ids(a, b - a).tolist()) for a, b in pairwise(offsets)]
        assert told == text.split("\n")
        boundaries.append(int(offsets[0]))
        start, length = held.until(int(first[number]), int(first[number + 1]), 8)
        assert (start, length) == (boundaries[-1], min((int(o - offsets[0]) for o in offsets if o - offsets[0] >= 8),
                                                   default=int(offsets[-1] - offsets[0])))  # fmt: skip
    assert (held.sentences, held.tokens) == (int(first[-1]), sum(len(text.split()) for text in texts))
    for begin, length in ((0, held.tokens), (boundaries[3], 40), (boundaries[3] + 1, 60), (boundaries[5] - 1, 2)):
        inside = [boundary - begin for boundary in boundaries if begin < boundary < begin + length]
        assert held.document_boundaries(begin, length).tolist() == inside
    again = pickle.loads(pickle.dumps(held))
    np.testing.assert_array_equal(again.ids(3, 99), held.ids(3, 99))


def same(one: Shards, other: Shards) -> bool:
    return one.stats == other.stats and all(
        np.array_equal(getattr(a, name), getattr(b, name))
        for a, b in zip(one.shards, other.shards, strict=True)
        for name in ("ids", "sentences", "documents")
    )


def test_an_interrupted_writing_goes_on_and_is_never_taken_for_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts, words = documents(), tokenizer()
    texts[4] = " "
    monkeypatch.setattr(sharding, "CHARS_PER_CHUNK", 100)
    whole = shards(tmp_path / "whole", Texts(texts), words, 60)
    with pytest.raises(KeyboardInterrupt):
        shards(tmp_path, Texts(texts, breaks=20), words, 60)
    (place,) = (tmp_path / "corpora").iterdir()
    finished = sorted(path.name for path in place.glob("shard-*"))
    assert len(finished) > 2
    assert not (place / "index.json").exists()
    stray = place / ".shard-00009-12ab"
    stray.mkdir()
    (stray / "ids.npy").write_bytes(b"half")
    half = place / f"shard-{len(finished):05d}"  # as a disk that failed leaves it
    half.mkdir()
    (half / "ids.npy").write_bytes(b"half")
    (place / finished[-1] / "ids.npy").write_bytes((place / finished[-1] / "ids.npy").read_bytes()[:-2])
    encoded: list[str] = []
    encode = Tokenizer.encode
    monkeypatch.setattr(Tokenizer, "encode", lambda self, texts: encoded.extend(texts) or encode(self, texts))
    assert same(shards(tmp_path, Texts(texts), words, 60), whole)
    assert 0 < len(encoded) < sum(text.count("\n") + 1 for text in texts) / 2  # the whole ones are not written again
    encoded.clear()
    assert same(shards(tmp_path, Texts(texts), words, 60), whole)
    assert not encoded


def test_no_text_is_an_error(tmp_path: Path) -> None:
    for texts in ([], [" ", "\n"]):
        with pytest.raises(DataError, match="here: no tokens"):
            shards(tmp_path, Texts(texts), tokenizer())


def test_the_key_is_what_can_change_the_ids(tmp_path: Path) -> None:
    other = Texts(documents())
    other.digest = "another"  # type: ignore[misc]
    boundaries = {
        shards(tmp_path, texts, words, size).folder
        for texts in (Texts(documents()), other)
        for words in (tokenizer(), whole_word_tokenizer(["w0 w1"], "here"))
        for size in (60, 70)
    }
    assert len(boundaries) == 8


def write(cache: Path, begun: Barrier) -> None:
    """In a process of its own."""
    words = tokenizer()
    begun.wait()
    held = shards(cache, Texts(documents(300)), words, 100)
    (cache / f"tokens-{os.getpid()}").write_text(str(held.tokens))


def test_two_processes_write_the_same_at_once(tmp_path: Path) -> None:
    context = get_context("fork")  # torch is imported already
    begun = context.Barrier(2)
    both = [context.Process(target=write, args=(tmp_path, begun)) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join(60)
    assert [process.exitcode for process in both] == [0, 0]
    tokens = [path.read_text() for path in tmp_path.glob("tokens-*")]
    whole = shards(tmp_path / "whole", Texts(documents(300)), tokenizer(), 100)
    assert tokens == [str(whole.tokens)] * 2
    (place,) = (path for path in (tmp_path / "corpora").iterdir())
    assert same(Shards(place), whole)
    assert json.loads((place / "index.json").read_text())["shards"] == len(list(place.glob("*shard-*")))
