"""Parts of splits: folds that share no row, stratified; rows held out; sums; places of their rows."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pytest

from protoformer.data.examples.extractive_qa import ExtractiveQAReader
from protoformer.data.examples.labelled import LabelledTextReader
from protoformer.data.selection import SplitSelection
from protoformer.data.sources.local import LocalSource
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
    source, reader = LocalSource(str(tmp_path)), LabelledTextReader(".", text_a="text", labels=["a"])
    raw = SplitSelection.parse("train[4:]+extra[fold 1/2, seed 0]").load(source, reader)
    for row, text in enumerate(raw.table["text"].to_pylist()):
        number = int(text.split()[1])
        file, line = ("train.csv", number + 2) if number < 6 else ("extra.csv", number - 4)
        assert raw.location(row) == f"{tmp_path / file}, line {line}"
