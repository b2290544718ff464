"""Parts of splits: folds that share no row, stratified; rows held out; sums; places of their rows."""

import logging
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pytest

from protoformer.data.examples.extractive_qa import ExtractiveQAReader
from protoformer.data.examples.labelled import LabelledTextReader
from protoformer.data.examples.parallel_text import ParallelTextReader
from protoformer.data.selection import SplitSelection
from protoformer.data.sources.local import LocalSource
from protoformer.data.sources.parallel import ParallelSource
from protoformer.data.sources.source import DatasetRef, RawTable
from protoformer.errors import DataError

READER = LabelledTextReader("any", text_a="text", labels=["a", "b"])
COUNT = 103
LABELS = ["b" if row % 5 == 0 else "a" for row in range(COUNT)]


@dataclass(frozen=True)
class TwoSplits:
    """Rows 0 to 102 as `train`, rows 103 to 106 as `extra`."""

    def load(self, ref: DatasetRef, split: str) -> RawTable:
        rows = range(COUNT) if split == "train" else range(COUNT, COUNT + 4)
        labels = [LABELS[row % COUNT] for row in rows]
        contexts = [f"context {row // 4}" for row in rows]
        table = pa.table({"text": [str(row) for row in rows], "label": labels, "context": contexts})
        return RawTable(table, split, f"digest of {split}")


def rows(text: str, reader: DatasetRef = READER) -> list[int]:
    return [int(value) for value in SplitSelection.parse(text).load(TwoSplits(), reader).table["text"].to_pylist()]


@pytest.mark.parametrize("seed", [0, 7])
def test_folds_share_no_row_and_are_all_rows_and_stratified(seed: int) -> None:
    folds = [rows(f"train[fold {fold}/5, seed {seed}]") for fold in range(5)]
    assert sorted(row for fold in folds for row in fold) == list(range(COUNT))
    assert {len(fold) for fold in folds} == {20, 21}
    for number, fold in enumerate(folds):
        assert Counter(LABELS[row] for row in fold)["b"] in (4, 5)
        others = rows(f"train[all but fold {number}/5, seed {seed}]")
        assert sorted([*fold, *others]) == list(range(COUNT))
        assert others == sorted(others)
        assert fold == rows(f"train[fold {number}/5, seed {seed}]")
    assert folds[0] != rows(f"train[fold 0/5, seed {seed + 1}]")


@pytest.mark.parametrize(("percent", "count"), [("10", 11), ("25", 26), ("30", 31), ("0.5", 1), ("50", 52)])
def test_held_out_rows_are_the_fraction_and_stratified(percent: str, count: int) -> None:
    held_out = rows(f"train[{percent}% held out, seed 0]")
    assert len(held_out) == count == SplitSelection.parse(f"train[{percent}% held out, seed 0]").size([COUNT])
    assert abs(sum(LABELS[row] == "b" for row in held_out) - 21 * count / COUNT) <= 1
    assert sorted([*held_out, *rows(f"train[all but {percent}% held out, seed 0]")]) == list(range(COUNT))


def test_questions_on_one_context_stay_together() -> None:
    reader = ExtractiveQAReader("any", question="text")
    folds = [rows(f"train[fold {fold}/3, seed 0]", reader) for fold in range(3)]
    assert sorted(row for fold in folds for row in fold) == list(range(COUNT))
    contexts = [{row // 4 for row in fold} for fold in folds]
    assert not contexts[0] & contexts[1]
    assert not contexts[1] & contexts[2]


def test_sums_of_parts_and_of_splits() -> None:
    assert rows("train[:20%]+train[40%:]") == [*range(21), *range(41, COUNT)]
    assert rows("train[100:]+extra") == list(range(100, COUNT + 4))
    assert SplitSelection.parse("train[:20%]+train[40%:]").size([COUNT]) == 21 + 62
    assert SplitSelection.parse("train[100:]+extra").splits == ["train", "extra"]
    with pytest.raises(DataError, match="a row is in two of these parts"):
        rows("train[:60%]+train[40%:]")
    with pytest.raises(DataError, match="103 rows are too few for"):
        rows("train[fold 0/104, seed 0]")


def test_a_row_of_a_part_is_named_by_its_line(tmp_path: Path) -> None:
    for name, first in (("train", 0), ("extra", 6)):
        text = "".join(f"text {row},a\n" for row in range(first, first + 6))
        (tmp_path / f"{name}.csv").write_text("text,label\n" + text)
    source, reader = LocalSource(str(tmp_path)), LabelledTextReader(".", text_a="text", labels=["a", "b"])
    raw = SplitSelection.parse("train[4:]+extra[fold 1/2, seed 0]").load(source, reader)
    for row, text in enumerate(raw.table["text"].to_pylist()):
        number = int(text.split()[1])
        file, line = ("train.csv", number + 2) if number < 6 else ("extra.csv", number - 4)
        assert raw.location(row) == f"{tmp_path / file}, line {line}"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("train[-3:]", range(100, 103)),
        ("train[:-100]", range(3)),
        ("train[-10%:]", range(93, 103)),  # 10.3 rows, rounded to 10
        ("train[1_00:]", range(100, 103)),
        ("train[50%:-50]", range(52, 53)),
        ("train[:100%]", range(COUNT)),
        ("train[103:]", range(0)),
    ],
)
def test_slices_count_from_the_end_as_those_of_datasets_do(text: str, expected: range) -> None:
    assert rows(text) == list(expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("train[:104]", range(COUNT)), ("train[-104:]", range(COUNT)), ("train[100:1_000]", range(100, COUNT))],
)
def test_a_slice_that_reaches_beyond_the_rows_says_so(
    text: str, expected: range, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("protoformer"), "propagate", True)  # as before a run
    assert rows(text) == list(expected)
    assert f"{text} reaches beyond the 103 rows that there are" in caplog.text
    caplog.clear()
    assert rows("train[:103]") == list(range(COUNT))
    assert not caplog.text


@pytest.mark.parametrize(
    "text", ["train[:0.5%]", "train[:50%", "train[10]", "train[:10 %]", "train[fold 0/5]", "train[::2]"]
)
def test_another_notation_is_told_from_the_name_of_a_split(text: str) -> None:
    with pytest.raises(DataError, match=r"not a part of a split; write train\[:80%\]"):
        rows(text)


def test_a_slice_of_all_rows_is_the_split() -> None:
    whole, part = (SplitSelection.parse(text).load(TwoSplits(), READER) for text in ("train", "train[:103]"))
    assert (part.digest, part.origin) == (whole.digest, "train[:103]")
    assert SplitSelection.parse("train[:102]").load(TwoSplits(), READER).digest != whole.digest


def test_a_pair_of_a_part_is_named_by_its_line(tmp_path: Path) -> None:
    pairs = [(f"fr {row}", "" if row == 4 else f"it {row}") for row in range(9)]
    table, texts = tmp_path / "table", tmp_path / "texts"
    for folder in (table, texts):
        folder.mkdir()
    (table / "train.csv").write_text("fr,it\n" + "".join(f"{fr},{it}\n" for fr, it in pairs))
    for number, language in enumerate(("fr", "it")):
        (texts / f"train.{language}").write_text("".join(f"{pair[number]}\n" for pair in pairs))
    reader = ParallelTextReader(".", source="fr", target="it")
    for text in ("train[3:]", "train[fold 0/2, seed 0]+train[fold 1/2, seed 0]"):
        part = SplitSelection.parse(text)
        with pytest.raises(DataError, match=r"train\.csv, line 6, language 'it': an empty line"):
            reader.read(part.load(LocalSource(str(table)), reader), "train")
        with pytest.raises(DataError, match=r"texts/train\.it, line 5: an empty line"):
            reader.read(part.load(ParallelSource(str(texts)), reader), "train")
