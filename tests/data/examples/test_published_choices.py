"""Multiple choice in the schemas of the hub's data sets, by the yaml files of the project, on rows made up here."""

from typing import Any

import pyarrow as pa
import pytest

from protoformer.assembly.instantiate import instantiate
from protoformer.config.compose import compose
from protoformer.data.examples.multiple_choice import MultipleChoiceReader
from protoformer.data.sources.source import RawTable
from protoformer.errors import DataError


def reader(task: str) -> Any:
    """The reader that a task's yaml names."""
    return instantiate(compose(["model=bert_l2_h128", f"task={task}", "init_from=scratch"]), "task.rows")


def raw(**columns: list) -> RawTable:
    return RawTable(pa.table(columns), "set/train.parquet", "digest")


def options(texts: list[str], labels: str) -> dict[str, list[str]]:
    return {"text": texts, "label": list(labels)}


@pytest.mark.parametrize("task", ["arc/easy", "arc/challenge"])
def test_arc_names_three_to_five_choices_by_letters_or_digits(task: str) -> None:
    choices = [
        options(["sun", "moon", "sea", "sky"], "ABCD"),
        options(["one", "two", "three"], "123"),
        options(["a", "b", "c", "d", "e"], "ABCDE"),
    ]
    table = raw(
        id=["x", "y", "z"], question=["Hot?", "How many?", "Which?"], choices=choices, answerKey=["A", "3", "E"]
    )
    found = reader(task).read(table, "train")
    assert found.labels.tolist() == [0, 2, 4]
    assert [len(texts) for texts in found.choices] == [4, 3, 5]
    assert found.contexts == ["Hot?", "How many?", "Which?"]
    wrong = raw(question=["Hot?"], choices=choices[1:2], answerKey=["4"])
    with pytest.raises(DataError, match=r"row 1, column 'answerKey': a label outside"):
        reader(task).read(wrong, "train")
    with pytest.raises(DataError, match=r"row 1, column 'answerKey': none of the labels \['A', .*\('E'\)"):
        reader(task).read(raw(question=["Hot?"], choices=choices[:1], answerKey=["E"]), "train")


def test_openbookqa() -> None:
    table = raw(
        id=["x"],
        question_stem=["Plants need"],
        choices=[options(["light", "coal", "ice", "salt"], "ABCD")],
        answerKey=["A"],
    )
    found = reader("openbookqa").read(table, "train")
    assert (found.contexts, found.choices, found.labels.tolist()) == (
        ["Plants need"], [["light", "coal", "ice", "salt"]], [0]
    )  # fmt: skip


@pytest.mark.parametrize("size", ["xs", "s", "m", "l", "xl", "debiased"])
def test_winogrande_fills_the_blank_and_counts_from_one(size: str) -> None:
    sentences = ["Ann thanked Bea because _ had helped.", "The cup is too big for the box, so _ stays out."]
    table = raw(sentence=sentences, option1=["Ann", "the cup"], option2=["Bea", "the box"], answer=["2", "1"])
    found = reader(f"winogrande/{size}").read(table, "train")
    assert found.contexts == ["Ann thanked Bea because", "The cup is too big for the box, so"]
    assert found.choices[0] == ["Ann had helped.", "Bea had helped."]
    assert found.labels.tolist() == [1, 0]
    hidden = raw(sentence=sentences, option1=["a", "b"], option2=["c", "d"], answer=["", ""])
    assert reader(f"winogrande/{size}").read(hidden, "test").labels.tolist() == [-1, -1]
    with pytest.raises(DataError, match=r"row 1, column 'sentence': no blank '_'"):
        reader(f"winogrande/{size}").read(raw(sentence=["no"], option1=["a"], option2=["b"], answer=["1"]), "train")


def test_boolq_answers_by_true_and_false() -> None:
    table = raw(question=["is it?", "was it?"], answer=[True, False], passage=["It is.", "It was not."])
    found = reader("boolq").read(table, "train")
    assert (found.text_a, found.text_b, found.labels.tolist()) == (
        ["is it?", "was it?"], ["It is.", "It was not."], [1, 0]
    )  # fmt: skip


LISTED = MultipleChoiceReader("set", context="q", options="o", choices=["A", "B", "C"])


@pytest.mark.parametrize(
    ("column", "labels", "expected"),
    [
        ([["x", "y"], ["x", "y", "z"]], ["B", "C"], [1, 2]),
        ([["x", "y"], ["x", "y", "z"]], ["y", "x"], [1, 0]),  # by the text of the answer
        ([["x", "y"], ["x", "y", "z"]], [1, 2], [1, 2]),
        ([["x", "y"], ["x", "y", "z"]], ["1", "2.0"], [1, 2]),
        ([["1", "2"], ["3", "4", "5"]], ["2", "3"], [1, 0]),  # texts that are numerals
        ([[{"text": "x", "label": "a"}, {"text": "y", "label": "b"}]] * 2, ["b", "a"], [1, 0]),
    ],
)
def test_answers_as_names_numbers_or_texts(column: list, labels: list, expected: list[int]) -> None:
    table = raw(q=["?", "?"], o=column, label=labels)
    assert LISTED.read(table, "train").labels.tolist() == expected


def test_choices_that_cannot_be_read_are_named_and_left_out() -> None:
    table = raw(q=["?"] * 3, o=[["x", "y"], ["x"], ["x", "y", "z"]], label=["A", "A", "D"])
    with pytest.raises(DataError, match=r"row 2, column 'o': not a list of 2 to 3 choices \(\['x'\]\)"):
        LISTED.read(table, "train")
    kept = LISTED.read(table, "train", "skip")
    assert (kept.row.tolist(), kept.reasons) == (
        [0], {"not a list of 2 to 3 choices (o)": 1, "an unknown label": 1}
    )  # fmt: skip
