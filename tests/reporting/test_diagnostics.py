"""Signs of a run that failed although it ended."""

import math

import pytest

from protoformer.errors import RunFolderError
from protoformer.reporting import diagnostics
from protoformer.runs import reader

YES, NO = "equivalent", "not_equivalent"


def answers(predictions: str, labels: str) -> list[dict]:
    words = {"y": YES, "n": NO, "-": None}
    return [{"prediction": words[p], "label": words[label]} for p, label in zip(predictions, labels, strict=True)]


def signs(folder) -> list[str]:
    return diagnostics.find_problems(reader.read(folder))


def test_a_sound_run_has_none(write_run) -> None:
    losses = [1 / step for step in range(1, 20)]
    assert signs(write_run("x", predictions={"val": answers("yynnyy", "yynnny")}, losses=losses)) == []


def test_one_label_for_every_row(write_run) -> None:
    folder = write_run("x", predictions={"val": answers("yyyy", "yyyn"), "test": answers("nnnn", "----")})
    assert signs(folder) == ["the same label for every row of val: equivalent"]


def test_one_label_in_the_data_is_told_from_one_label_that_is_predicted(write_run) -> None:
    folder = write_run("x", predictions={"val": answers("yyyy", "yyyy")})
    assert signs(folder) == ["every row of val has the label equivalent: its scores tell nothing"]


@pytest.mark.parametrize(("predictions", "bad"), [("yyyyny", False), ("yyyynn", False), ("nnyyyn", True)])
def test_no_better_than_the_most_frequent_label(write_run, predictions: str, bad: bool) -> None:
    actual = signs(write_run("x", predictions={"val_matched": answers(predictions, "yyyynn")}))
    assert bool(actual) is bad
    if bad:
        assert "no better on val_matched than always equivalent" in actual[0]


def test_as_many_right_as_the_most_frequent_label_is_degenerate(write_run) -> None:
    assert signs(write_run("x", predictions={"val": answers("ynyn", "yynn")})) == [
        "no better on val than always equivalent (2 against 2 of 4 rows correct)"
    ]


def test_a_translation_need_not_be_the_reference_to_the_letter(write_run) -> None:
    texts = [{"prediction": f"text {number}", "label": f"reference {number}"} for number in range(6)]
    assert "no better" in signs(write_run("labels", predictions={"val": texts}))[0]
    assert signs(write_run("texts", predictions={"val": texts}, kind="translation")) == []
    same = [row | {"prediction": "text"} for row in texts]
    assert signs(write_run("one", predictions={"val": same}, kind="translation")) == [
        "the same text for every row of val: text"
    ]


def test_any_gold_answer_of_a_question_is_right_and_none_is_frequent(write_run) -> None:
    golds = [["the Thames", "Thames"], [], ["Rome"], ["Rome"], ["Rome"]]

    def message(name: str, *answers: str) -> list[str]:
        rows = [{"prediction": answer, "label": gold} for answer, gold in zip(answers, golds, strict=True)]
        return signs(write_run(name, predictions={"val": rows}, kind="span"))

    assert message("sound", "thames.", "x", "y", "z", "w") == []
    assert message("none", "x", "", "y", "z", "w") == []  # that there is no answer is one
    assert message("wrong", "x", "y", "z", "w", "v") == ["no row of val is correct"]
    assert message("same", *[""] * 5) == ["the same text for every row of val: (empty)"]


def test_completions_none_of_which_is_written_are_no_label(write_run) -> None:
    rows = [{"prediction": None, "label": str(number)} for number in range(3)]
    assert signs(write_run("x", predictions={"val": rows})) == ["no row of val is correct"]


def test_one_number_for_every_row(write_run) -> None:
    same = [{"prediction": 2.5 + 0.001 * place, "label": float(place)} for place in range(5)]
    metrics = {"val/pearson": 0.9, "val/spearman": 0.9}
    assert signs(write_run("x", predictions={"val": same}, metrics=metrics)) == ["the same number for every row of val"]
    spread = [{"prediction": 0.5 * place, "label": float(place)} for place in range(5)]
    assert signs(write_run("y", predictions={"val": spread}, metrics=metrics)) == []


def test_a_correlation_that_is_undefined_or_not_positive(write_run) -> None:
    assert signs(write_run("x", metrics={"val/matthews_correlation": 0.0})) == [
        "val/matthews_correlation is not above 0"
    ]
    assert signs(write_run("y", metrics={"val/pearson": math.nan, "val/spearman": 0.1})) == ["val/pearson is undefined"]
    assert signs(write_run("z", metrics={"test/matthews_correlation": -1.0, "val/matthews_correlation": 0.1})) == []


def test_a_training_loss_that_did_not_fall(write_run) -> None:
    assert "did not fall (0.690 to 0.690)" in signs(write_run("x", losses=[0.69] * 12))[0]
    assert signs(write_run("y", losses=[0.69] * 7)) == []  # too few points to say so
    assert signs(write_run("z", losses=[0.7] * 6 + [0.6] * 6)) == []
    assert signs(write_run("w", losses=[0.7, math.nan])) == ["the training loss is not a number"]


def test_a_broken_file_is_named(write_run) -> None:
    folder = write_run("x", predictions={"val": answers("yn", "yn")})
    file = folder / "predictions" / "val.jsonl"
    file.write_text(file.read_text() + '{"id": 2, "pre')
    with pytest.raises(RunFolderError, match=r"val\.jsonl, line 3"):
        signs(folder)
