"""Overlap of test sets with a corpus: n-grams, the Bloom filter's bound, dirty examples, scores on the clean part."""

import json
import random
from pathlib import Path

import numpy as np
import pytest

from protoformer import cli
from protoformer.assembly.build import test_texts as texts_of_task  # no test of pytest's
from protoformer.config.compose import compose
from protoformer.contamination.bloom import BloomFilter
from protoformer.contamination.ngrams import ngram_hashes, words
from protoformer.contamination.overlap import CorpusNgrams, TestSet, clean_score, overlap


def text(draw: random.Random, length: int, vocabulary: int = 10**9) -> str:
    return " ".join(f"w{draw.randrange(vocabulary)}" for _ in range(length))


def test_words_are_letters_and_digits_in_lower_case() -> None:
    assert words("The cat's 2 mats,\n ÉTÉ — snake_case!") == ["the", "cat", "s", "2", "mats", "été", "snake", "case"]


def test_equal_ngrams_have_equal_hashes_and_others_do_not() -> None:
    sentence = ["a", "b", "c", "d", "a", "b", "c", "e"]
    hashes = ngram_hashes(sentence, 3).tolist()
    ngrams = [tuple(sentence[start : start + 3]) for start in range(6)]
    for one, first in zip(ngrams, hashes, strict=True):
        for other, second in zip(ngrams, hashes, strict=True):
            assert (first == second) == (one == other)
    assert len(set(ngram_hashes(["a", "b", "c"], 3).tolist() + ngram_hashes(["c", "b", "a"], 3).tolist())) == 2
    assert len(ngram_hashes(["a"], 2)) == 0
    with pytest.raises(ValueError, match="n 0"):
        ngram_hashes(["a"], 0)


def test_the_filter_has_all_its_members_and_keeps_its_bound() -> None:
    generator = np.random.default_rng(0)
    values = generator.integers(0, 2**64, size=60_000, dtype=np.uint64)
    members, others = values[:10_000], values[10_000:]
    filter_ = BloomFilter(10_000, bound=0.01)
    assert not filter_.contains(others).any()  # empty
    filter_.add(members)
    assert filter_.contains(members).all()
    assert 0.005 < filter_.contains(others).mean() < 0.013  # the bound is met, and not wasted
    assert filter_.false_positive_rate == pytest.approx(0.01, rel=0.05)
    assert 9 < filter_.size / 10_000 < 10  # bits a member: -ln 0.01 / (ln 2)^2 = 9.59
    with pytest.raises(ValueError, match="capacity 0"):
        BloomFilter(0)


def test_ngrams_that_stand_in_the_corpus_are_counted_over_the_ends_of_lines_and_pieces(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("protoformer.contamination.overlap.WORDS_AT_ONCE", 20)
    draw = random.Random(0)
    document = text(draw, 200).split()
    lines = [" ".join(document[start : start + 7]) + "\n" for start in range(0, 200, 7)]
    corpus = CorpusNgrams([8, 13], capacity=400)
    corpus.add_lines(lines)
    assert corpus.words == 200
    assert corpus.filters[8].added == 193
    assert corpus.filters[13].added == 188
    for n in (8, 13):
        assert corpus.filters[n].contains(ngram_hashes(document, n)).all()


def test_an_example_is_dirty_by_one_ngram_and_the_fraction_is_of_all() -> None:
    draw = random.Random(1)
    seen, new = text(draw, 100).split(), text(draw, 100).split()
    corpus = CorpusNgrams([8, 13], capacity=1000)
    corpus.add(" ".join(seen))
    examples = {
        4: " ".join(new[:20]),
        5: " ".join([*new[20:30], *seen[:13], *new[30:40]]),  # 6 of its 26 8-grams
        6: " ".join([*new[40:50], *seen[:12], *new[50:60]]),  # 5 of 25, and no 13-gram
    }
    found = overlap(test_set := TestSet.of_texts("x", examples), corpus)
    assert (found.n, found.dirty.tolist()) == (13, [False, True, False])
    assert (found.matching_eight_grams, found.eight_grams) == (11, 13 + 26 + 25)
    assert clean_score({4: 1.0, 5: 1.0, 6: 0.0}, test_set, found.dirty) == 0.5
    assert clean_score({}, test_set, found.dirty) is None


@pytest.mark.parametrize(("length", "n"), [(3, 8), (10, 10), (40, 13)])
def test_short_examples_have_shorter_ngrams(length: int, n: int) -> None:
    assert TestSet.of_texts("x", {0: " ".join("a" * length)}).n == n


def test_lines_of_running_text_are_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    draw = random.Random(0)
    lines = [text(draw, 20) for _ in range(3)]
    (tmp_path / "test.txt").write_text("\n\n".join(lines))
    (tmp_path / "corpus.txt").write_text(f"{text(draw, 30)} {lines[1]} {text(draw, 30)}")
    words_ = ["lm/files", "source=files", f"source.files=[{tmp_path / 'test.txt'}]"]
    assert cli.main(["overlap", str(tmp_path / "corpus.txt"), *words_]) in (0, None)
    row = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("lm/files test"))
    assert row.split()[2:4] == ["3", "33.33"]
    assert "1 (33.3 %)" in row


def test_a_task_of_the_sample_against_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = ["source=sample", "source.rows=20"]
    rows = texts_of_task(compose(["model=gpt2", "task=incontext/copa", *source]))["val"]
    assert len(rows) == 20
    (tmp_path / "a.txt").write_text("\n".join(rows[number] for number in range(5)))
    (tmp_path / "b.jsonl").write_text(json.dumps({"text": "nothing of it"}) + "\n")
    assert cli.main(["overlap", f"{tmp_path}/*", "incontext/copa", *source]) == 0
    out = capsys.readouterr().out
    assert "incontext/copa val" in out
    dirty = int(out.split("\n")[1].split()[-3])
    assert 5 <= dirty < 20
    assert "2 documents" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere*", "incontext/copa", "source=sample"], "nowhere*: no such file"),
        (["x"], "no test set: name tasks"),
        (["x", "incontext/copa", "--bound", "2"], "--bound 2: between 0 and 1"),
        (["x", "incontext/copaa", "source=sample"], "no such task"),
    ],
)
def test_what_cannot_be_compared_is_one_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["overlap", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
