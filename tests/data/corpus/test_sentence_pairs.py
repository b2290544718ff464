"""Pairs as BERT's code makes them and packs as RoBERTa's, by statistics and by what must hold for each."""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from random import Random

import numpy as np
import pytest

from protoformer.data.corpus.held_out import train_validation_split, uniform_hash
from protoformer.data.corpus.sentence_pairs import InstanceConfig, Instances, _chunks, instances
from protoformer.data.corpus.sharding import shards
from protoformer.data.corpus.shards import Shards
from protoformer.text.tokenizers import whole_word_tokenizer


class Texts:
    origin, skipped = "here", 0

    def __init__(self, documents: list[str]) -> None:
        self.documents, self.digest = documents, "|".join(documents)

    def __iter__(self) -> Iterator[str]:
        return iter(self.documents)


def corpus(folder: Path, lengths: list[list[int]], shard_tokens: int = 10**6) -> Shards:
    """Documents of sentences of so many tokens."""
    texts = ["\n".join("w " * length for length in document) for document in lengths]
    return shards(folder, Texts(texts), whole_word_tokenizer(["w"], "here"), shard_tokens)


def drawn(documents: int, sentences: tuple[int, int], tokens: tuple[int, int] = (3, 12)) -> list[list[int]]:
    random = np.random.default_rng(5)
    return [random.integers(*tokens, random.integers(*sentences)).tolist() for _ in range(documents)]


def document_of(held: Shards, token: np.ndarray) -> np.ndarray:
    first = held.document_sentences()
    starts = np.array([held.offsets(int(a), int(b))[0] for a, b in pairwise(first)])
    return np.searchsorted(starts, token, side="right") - 1


def made(folder: Path, held: Shards, config: InstanceConfig, side: str = "train") -> Instances:
    pairs = instances(folder, held, config, side)  # type: ignore[arg-type]
    assert pairs is not None
    return pairs


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Shards]:
    folder = tmp_path_factory.mktemp("many")
    return folder, corpus(folder, drawn(60, (200, 600)), shard_tokens=25_000)


def test_half_of_the_pairs_are_random_and_never_of_one_document(many: tuple[Path, Shards]) -> None:
    folder, held = many
    assert held.stats["shards"] > 5
    pairs = made(folder, held, InstanceConfig(64, duplicates=3, short_share=0.0))
    assert len(pairs) > 9_000
    assert abs(pairs.is_random.mean() - 0.5) < 0.02
    assert (pairs.a_length > 0).all()
    assert (pairs.b_length > 0).all()
    total = pairs.a_length + pairs.b_length
    assert total.max() == 61
    assert (total < 50).mean() < 0.05  # at the ends of documents
    short = made(folder, held, InstanceConfig(64, duplicates=3, short_share=0.3))
    assert 0.2 < (short.a_length + short.b_length < 50).mean() < 0.5
    a, b = document_of(held, pairs.a_start), document_of(held, pairs.b_start)
    assert (a != b)[pairs.is_random].all()
    np.testing.assert_array_equal(a[~pairs.is_random], b[~pairs.is_random])
    assert len(np.unique(b[pairs.is_random])) == 58  # from every document that is not held out
    for start, length in ((pairs.a_start, pairs.a_length), (pairs.b_start, pairs.b_length)):
        np.testing.assert_array_equal(document_of(held, start), document_of(held, start + length - 1))
    apart = (pairs.b_start - pairs.a_start - pairs.a_length)[~pairs.is_random]
    assert (apart >= 0).all()  # B goes on where A ends, but for what was cut off there
    assert (apart == 0).any()
    assert pairs.stats["random"] == pairs.is_random.sum()
    assert 0 < pairs.stats["truncated"] < len(pairs)


def test_every_sentence_is_used() -> None:
    random = Random(0)
    for case in range(200):
        ends = np.cumsum([0, *np.random.default_rng(case).integers(1, 30, case % 20 + 1)]).tolist()
        at, halves = 0, []
        for chunk in _chunks(ends, random.randint(2, 60), case % 3 > 0, random):
            assert chunk.start == at
            assert chunk.start < chunk.cut <= chunk.end
            at = chunk.cut if chunk.is_random else chunk.end
            halves.append(chunk.is_random)
            assert chunk.is_random or chunk.cut < chunk.end or case % 3 == 0
        assert at == len(ends) - 1
        assert case % 3 or not any(halves)


def test_documents_of_one_sentence_have_random_partners(tmp_path: Path) -> None:
    held = corpus(tmp_path, [[3]] * 50)
    pairs = made(tmp_path, held, InstanceConfig(16, held_out=0.0))
    assert pairs.is_random.all()
    assert sorted(document_of(held, pairs.a_start)) == list(range(50))
    assert (document_of(held, pairs.a_start) != document_of(held, pairs.b_start)).all()
    assert (pairs.a_length == 3).all()
    assert (pairs.b_length == 3).all()
    two = corpus(tmp_path, [[3], [4]])
    assert made(tmp_path, two, InstanceConfig(16, held_out=0.0)).b_length.tolist() == [4, 3]


def test_a_single_document_has_true_pairs_and_lone_texts(tmp_path: Path) -> None:
    held = corpus(tmp_path, drawn(1, (200, 201)))
    pairs = made(tmp_path, held, InstanceConfig(32))
    assert not pairs.is_random.any()
    assert (pairs.b_length > 0).mean() > 0.8
    validation = made(tmp_path, held, InstanceConfig(32), "validation")
    border = int(held.offsets(0, 200)[198])
    assert pairs.stats["held_out_sentences"] == 2
    assert pairs.stats["held_out_documents"] == 0
    assert validation.a_start.min() == border
    assert (pairs.a_start + pairs.a_length).max() <= border
    assert (pairs.b_start + pairs.b_length).max() <= border
    lone = corpus(tmp_path, [[5]])
    only = made(tmp_path, lone, InstanceConfig(32))
    assert (only.a_length.tolist(), only.b_length.tolist()) == ([5], [0])
    assert instances(tmp_path, lone, InstanceConfig(32), "validation") is None


def test_a_sentence_longer_than_an_example_loses_both_ends(tmp_path: Path) -> None:
    held = corpus(tmp_path, [[400], [300]] * 20)
    pairs = made(tmp_path, held, InstanceConfig(20, held_out=0.0))
    assert (pairs.a_length + pairs.b_length == 17).all()
    assert pairs.stats["truncated"] == len(pairs)
    starts = document_of(held, pairs.a_start) % 2 * 400 + document_of(held, pairs.a_start) // 2 * 700
    front = pairs.a_start - starts
    assert abs(front.mean() / 340 - 0.5) < 0.1


def test_the_held_out_documents_are_few_and_apart(many: tuple[Path, Shards]) -> None:
    _, held = many
    for share, least in ((0.01, 2), (0.3, 10), (0.999, 50)):
        train, validation = train_validation_split(held, share)
        assert len(train) + len(validation) == 60
        assert len(validation) >= least
        assert len(train) >= 1
        assert not {tuple(row) for row in train.tolist()} & {tuple(row) for row in validation.tolist()}
    assert len(train_validation_split(held, 0.0)[1]) == 0
    assert abs((uniform_hash(np.arange(100_000)) < 0.01).mean() - 0.01) < 0.001


@pytest.mark.parametrize("documents", [2, 3, 4])
def test_few_documents_leave_something_on_both_sides(tmp_path: Path, documents: int) -> None:
    held = corpus(tmp_path, [[3, 4, 5]] * documents)
    train, validation = train_validation_split(held, 0.01)
    assert (len(train), len(validation)) == {2: (1, 1), 3: (2, 1), 4: (2, 2)}[documents]
    for side in ("train", "validation"):
        assert len(made(tmp_path, held, InstanceConfig(16), side)) > 0


def test_packs_hold_all_tokens_in_order(tmp_path: Path) -> None:
    lengths = [*drawn(40, (1, 6)), [90], *drawn(40, (1, 6))]
    held = corpus(tmp_path, lengths, shard_tokens=300)
    pairs = made(tmp_path, held, InstanceConfig(32, nsp=False, held_out=0.0))
    ends = pairs.a_start + pairs.a_length
    assert (pairs.a_start[0], ends[-1]) == (0, held.tokens)
    np.testing.assert_array_equal(pairs.a_start[1:], ends[:-1])
    assert not pairs.b_length.any()
    separators = np.array(
        [len(held.document_boundaries(*place)) for place in zip(pairs.a_start, pairs.a_length, strict=True)]
    )
    cost = pairs.a_length + separators
    assert cost.max() == 30
    assert separators.max() > 1
    assert (cost > 18).mean() > 0.9  # what does not fit is one sentence of at most 11 tokens, but at a shard's end
    borders = set(np.concatenate([s.sentences + t for s, t in zip(held.shards, held._tokens, strict=False)]).tolist())
    inside = [end for end in ends.tolist() if end not in borders]
    assert len(inside) == 2  # only the sentence of 90 is cut
    assert pairs.stats["truncated"] == 0


def test_packs_leave_out_what_is_held_out_and_passes_are_cut_elsewhere(many: tuple[Path, Shards]) -> None:
    folder, held = many
    config = InstanceConfig(128, nsp=False, duplicates=2, held_out=0.1)
    pairs, validation = made(folder, held, config), made(folder, held, config, "validation")
    seen = np.zeros(held.tokens, dtype=int)
    for table in (pairs, validation):
        for start, length in zip(table.a_start, table.a_length, strict=True):
            seen[start : start + length] += 2 if table is pairs else 4
    assert set(seen.tolist()) == {4}  # twice where trained on, once where validated on
    half = np.flatnonzero(np.diff(pairs.a_start) < 0)[0] + 1
    assert len(set(pairs.a_start[:half].tolist()) & set(pairs.a_start[half:].tolist())) < 0.8 * half


def test_the_seed_decides_and_the_cache_is_keyed(many: tuple[Path, Shards], tmp_path: Path) -> None:
    folder, held = many
    one, again, other = (
        made(where, held, InstanceConfig(64, seed=seed)) for where, seed in ((folder, 1), (tmp_path, 1), (folder, 2))
    )
    for name in ("a_start", "a_length", "b_start", "b_length", "is_random"):
        np.testing.assert_array_equal(getattr(one, name), getattr(again, name))
    assert not np.array_equal(one.a_length[:500], other.a_length[:500])
    assert made(folder, held, InstanceConfig(64, seed=1)).folder == one.folder != other.folder
