"""Drawn instances of GPT-3's arithmetic and word-scrambling tasks: rule, wording and seed of benchmarks/synthetic_tasks.py."""

import json
import re
import runpy
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

SCRIPT = Path(__file__).parents[3] / "benchmarks" / "synthetic_tasks.py"
WORDS = ["cowboys", "casino", "banana", "feelings"]
SOLVE = {"plus": int.__add__, "minus": int.__sub__, "times": int.__mul__}
PROBLEM = re.compile(r"\n\nQ: What is (\d+) (plus|minus|times) (\d+)\?\n\nA:")


def drawn(monkeypatch: pytest.MonkeyPatch, folder: Path, seed: int = 0) -> dict[str, list[dict[str, str]]]:
    """Rows by subset."""
    for name in ("cycle_letters_in_word", "reversed_words"):
        path = folder / "data/EleutherAI/unscramble" / name / "validation-00000-of-00001.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(
            pa.table({"context": ["\nx ="] * len(WORDS), "completion": [f" {word}" for word in WORDS]}), path
        )
    out = folder / f"out{seed}"
    monkeypatch.setattr(sys, "argv", ["x", "--data", str(folder / "data"), "--out", str(out), "--seed", str(seed)])
    runpy.run_path(str(SCRIPT), run_name="__main__")
    return {
        path.parent.name: [json.loads(line) for line in path.read_text().splitlines()]
        for path in out.rglob("validation.jsonl")
    }


def test_rows_follow_the_rule_and_the_seed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    sets = drawn(monkeypatch, tmp_path)
    assert len(sets) == 10
    for subset, rows in sets.items():
        if not subset.startswith("arithmetic_"):
            continue
        digits = int(subset.removeprefix("arithmetic_")[0])
        assert len({row["context"] for row in rows}) == 2000
        for row in rows:
            found = PROBLEM.fullmatch(row["context"])
            assert found
            left, right = int(found[1]), int(found[3])
            assert max(left, right) < 10**digits
            assert row["completion"] == f" {SOLVE[found[2]](left, right)}"
    for kept, subset in ((1, "mid_word_1_anagrams"), (2, "mid_word_2_anagrams")):
        for word, row in zip(WORDS, sets[subset], strict=True):
            text = row["context"].removeprefix("\n").removesuffix(" =")
            assert row["completion"] == f" {word}"
            assert sorted(text) == sorted(word)
            assert (text[:kept], text[-kept:]) == (word[:kept], word[-kept:])
            assert text != word
    for word, row in zip(WORDS, sets["random_insertion_in_word"], strict=True):
        text = row["context"].removeprefix("\n").removesuffix(" =")
        assert text[::2] == word
        assert not any(sign.isalnum() for sign in text[1::2])
    assert drawn(monkeypatch, tmp_path) == sets
    assert drawn(monkeypatch, tmp_path, seed=1)["arithmetic_3da"] != sets["arithmetic_3da"]
