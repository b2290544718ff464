"""Slices of evaluated examples: who belongs to which, and their table in the card."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from protoformer.reporting.card import write_card
from protoformer.reporting.error_analysis.slices import Row, overlap_coefficient, slices_by, words

PAIRS: list[Row] = [
    {"texts": {"a": "The dog doesn't bark.", "b": "A dog barks"}, "columns": {"genre": "x|y", "age": 1}},
    {"texts": {"a": "the cat sleeps", "b": "THE cat, sleeps!"}, "columns": {"genre": "z", "age": 2}},
    {"texts": {"a": "It did n't rain", "b": "nobody got wet at all"}, "columns": {"genre": None, "age": 3}},
    {"texts": {"a": "nothing happened", "b": "something"}, "columns": {"genre": "z", "age": 4}},
]


def members(name: str, rows: list[Row]) -> dict[str, list[int]]:
    return {each.value: np.flatnonzero(each.members).tolist() for each in slices_by(name, rows)}


def test_each_example_is_in_one_slice_of_a_property() -> None:
    assert members("negation", PAIRS) == {"in a alone": [0, 3], "in both": [2], "none": [1]}
    assert members("overlap", PAIRS) == {"0 to 25 %": [2, 3], "25 to 50 %": [0], "all words": [1]}
    assert members("length", PAIRS) == {"3 words": [3], "6 words": [1], "7 words": [0], "9 words": [2]}
    assert members("genre", PAIRS) == {"(null)": [2], "x|y": [0], "z": [1, 3]}
    for name in ("length", "overlap", "negation", "genre", "age"):
        assert sum(each.members.astype(int) for each in slices_by(name, PAIRS)).tolist() == [1] * 4


def test_words_are_those_of_any_script_and_keep_their_apostrophe() -> None:
    assert words("Don\u2019t  stop_me, \u00dcber-\u4f60\u597d!") == ["don't", "stop", "me", "\u00fcber", "\u4f60\u597d"]
    assert overlap_coefficient("a b c d", "d A") == 1
    assert overlap_coefficient("", "a") == 0


def test_one_text_has_no_overlap_and_choices_are_no_text() -> None:
    rows: list[Row] = [{"texts": {"context": "not now", "choices": ["a", "b"]}}, {"texts": {"context": "now"}}]
    assert members("overlap", rows) == {}
    assert members("negation", rows) == {"none": [1], "present": [0]}
    assert members("length", [{"label": 1}]) == members("genre", rows) == {}


def test_columns_of_many_values_are_grouped() -> None:
    numbers: list[Row] = [{"columns": {"score": value / 2}} for value in range(40)]
    assert [(each.value, each.members.sum()) for each in slices_by("score", numbers)] == [
        ("0 to 4.5", 10), ("5 to 9.5", 10), ("10 to 14.5", 10), ("15 to 19.5", 10),
    ]  # fmt: skip
    names: list[Row] = [{"columns": {"user": f"u{value}"}} for value in [*range(20), *range(11)]]
    slices = slices_by("user", names)
    assert (len(slices), slices[-1].value, slices[-1].members.sum()) == (13, "8 other values", 8)


def test_numbers_that_a_csv_holds_as_text_are_numbers_and_rows_without_one_a_slice() -> None:
    values = ["", *(f"{value / 2:g}" for value in range(40)), " "]
    assert [(each.value, each.members.sum()) for each in slices_by("score", [{"columns": {"score": v}} for v in values])] == [
        ("0 to 4.5", 10), ("5 to 9.5", 10), ("10 to 14.5", 10), ("15 to 19.5", 10), ("(null)", 2),
    ]  # fmt: skip
    mixed: list[Row] = [{"columns": {"score": value}} for value in (None, math.nan, *range(20))]
    assert members("score", mixed)["(null)"] == [0, 1]
    assert members("score", mixed)["0 to 4"] == [2, 3, 4, 5, 6]
    versions: list[Row] = [{"columns": {"score": f"1.{value}.0"}} for value in range(14)]
    assert len(slices_by("score", versions)) == 13  # no numbers: twelve values and the others
    names: list[Row] = [{"columns": {"score": f"1_{value}"}} for value in range(14)]
    assert len(slices_by("score", names)) == 13
    assert members("score", [{"columns": {"score": "7"}}] * 3) == {"7": [0, 1, 2]}


@pytest.fixture
def folder(write_run) -> Path:
    """Forty pairs: all those with a negation are wrong, all others right."""
    rows = [
        {"prediction": "no", "label": "no", "texts": {"a": "it is *so*", "b": f"it is{' not' * (i % 2)} so"}}
        for i in range(40)
    ]
    made: Path = write_run("x", predictions={"val": [{**row, "columns": {"kind": "a|<b>"}} for row in rows]})
    (made / "example_scores").mkdir()
    lines = [json.dumps({"id": i, "accuracy": float(i % 2 == 0)}) + "\n" for i in range(40)]
    (made / "example_scores" / "val.jsonl").write_text("".join(lines))
    return made


def test_the_card_has_their_scores_with_numbers_and_intervals(folder: Path) -> None:
    text = write_card(folder).read_text()
    assert "## Slices of val" in text
    assert "| all | 40 | 50.00 | 35.20 to 64.80 |" in text
    assert "| negation: in b alone | 20 | 0.00 | 0.00 to 16.11 |" in text
    assert "| negation: none | 20 | 100.00 | 83.89 to 100.00 |" in text
    assert "kind:" not in text


def test_the_config_says_by_what(folder: Path) -> None:
    config = folder / "config.yaml"
    config.write_text(config.read_text() + "views: {slices: [kind]}\n")
    text = write_card(folder).read_text()
    assert r"| kind: a\|\<b\> | 40 | 50.00 | 35.20 to 64.80 | - | - |" in text
    assert "negation: none" not in text
    config.write_text(config.read_text().replace("[kind]", "[]"))
    assert "Slices" not in write_card(folder).read_text()


def test_passages_count_once(folder: Path) -> None:
    scores = folder / "example_scores" / "val.jsonl"
    plain = write_card(folder).read_text()
    rows = [json.loads(line) for line in scores.read_text().splitlines()]
    scores.write_text("".join(json.dumps({**row, "cluster": row["id"] // 20}) + "\n" for row in rows))
    clustered = write_card(folder).read_text()
    assert "| all | 40 | 50.00 | 35.20 to 64.80 |" in plain
    assert "| all | 40 | 50.00 | 9.45 to 90.55 |" in clustered  # two passages, each half right
