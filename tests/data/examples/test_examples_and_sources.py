"""Every bad row, column and file is named; every file form of the hub's layout is read."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from protoformer.data.examples.extractive_qa import ExtractiveQAReader
from protoformer.data.examples.labelled import LabelledTextReader
from protoformer.data.examples.multiple_choice import MultipleChoiceReader
from protoformer.data.sources.local import LocalSource
from protoformer.data.sources.source import DatasetRef, RawTable, Role, SplitSlice
from protoformer.errors import ConfigurationError, DataError

ROWS = LabelledTextReader("set", "a", "b", labels=["no", "yes"])
NUMBERS = LabelledTextReader("set", "a", labels=None)


def table(**columns: list) -> RawTable:
    return RawTable(pa.table(columns), "set/train.parquet", "digest")


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"a": ["x"], "label": [0]}, r"set/train\.parquet: no column 'b' \(task.rows.text_b\); it has a, label"),
        ({"a": [], "b": [], "label": []}, "zero rows"),
        ({"a": ["x", None], "b": ["y", "y"], "label": [0, 1]}, r"row 2, column 'a': null"),
        ({"a": ["x", "x"], "b": ["y", " "], "label": [0, 1]}, r"row 2, column 'b': empty text"),
        ({"a": ["x", "x"], "b": ["y", "y"], "label": [0, 2]}, r"row 2, column 'label': a label outside 0 to 1 \(2\)"),
        ({"a": ["x", "x"], "b": ["y", "y"], "label": [0, -1]}, r"row 2, column 'label': a label outside"),
        ({"a": ["x", "x"], "b": ["y", "y"], "label": [None, 1]}, r"row 1, column 'label': null"),
        ({"a": [[1], [2]], "b": ["y", "y"], "label": [0, 1]}, "column 'a' holds list<.*>, not text"),
    ],
)
def test_bad_rows_are_named(columns: dict[str, list], message: str) -> None:
    if columns["a"] == []:
        columns = {name: pa.array([], pa.string()) for name in columns}
    with pytest.raises(DataError, match=message):
        ROWS.read(table(**columns), "train")


def test_bad_rows_are_left_out_when_asked_and_counted() -> None:
    raw = table(a=["x", None, "z", "w"], b=["y", "y", "", "v"], label=[0, 1, 1, 1])
    examples = ROWS.read(raw, "train", "skip")
    assert (examples.text_a, examples.text_b) == (["x", "w"], ["y", "v"])
    assert (examples.labels.tolist(), examples.row.tolist(), examples.skipped) == ([0, 1], [0, 3], 2)
    with pytest.raises(DataError, match="every one of its 1 rows"):
        ROWS.read(table(a=[""], b=["y"], label=[0]), "train", "skip")


def test_a_label_word_that_nobody_knows_is_no_hidden_label() -> None:
    raw = table(a=["x", "x"], b=["y", "y"], label=["yes", "yess"])
    for role in ("train", "test"):
        with pytest.raises(DataError, match=r"row 2, column 'label': none of the labels .* \('yess'\)"):
            ROWS.read(raw, role)  # type: ignore[arg-type]
    hidden = RawTable(
        pa.table({"a": ["x"], "b": ["y"], "label": pa.array([None], pa.string())}), "set/test.parquet", "d"
    )
    assert ROWS.read(hidden, "test").labels.tolist() == [-1]


def test_hidden_labels_are_for_test_splits_alone() -> None:
    raw = table(a=["x", "x"], b=["y", "y"], label=[-1, -1])
    assert ROWS.read(raw, "test").labels.tolist() == [-1, -1]
    assert ROWS.read(table(a=["x"], b=["y"]), "test").labels.tolist() == [-1]
    numbers = RawTable(pa.table({"a": ["x", "x"], "label": [2.5, -1.0]}), "set/train.parquet", "digest")
    assert NUMBERS.read(numbers, "test").labels.tolist() == [2.5, -1.0]
    with pytest.raises(DataError, match="hidden label"):
        NUMBERS.read(numbers, "train")


def test_label_words_are_taken_for_numbers() -> None:
    examples = ROWS.read(table(a=["x", "x"], b=["y", "y"], label=["yes", "no"]), "train")
    assert examples.labels.tolist() == [1, 0]
    with pytest.raises(DataError, match=r"row 2, column 'label'.*'maybe'"):
        ROWS.read(table(a=["x", "x"], b=["y", "y"], label=["yes", "maybe"]), "train")


CONTEXT = "A cat sat on a mat."


def questions(*rows: tuple[object, object, object]) -> RawTable:
    """Rows of context, answers, and where they begin."""
    return table(
        id=[str(i) for i in range(len(rows))],
        question=["Who sat?"] * len(rows),
        context=[context for context, _, _ in rows],
        answers=[{"text": texts, "answer_start": starts} for _, texts, starts in rows],
    )


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            (CONTEXT, ["cat"], [3]),
            r"row 2, column 'answers': an answer that does not stand in the context at its answer",
        ),
        ((CONTEXT, ["cat"], [None]), "an answer that does not stand in the context"),
        ((CONTEXT, ["cat", "mat"], [2]), "an answer that does not stand in the context"),
        ((CONTEXT, ["mat."], [900]), "an answer that does not stand in the context"),
        (("", ["cat"], [2]), r"row 2, column 'context': empty text"),
        ((None, ["cat"], [2]), r"row 2, column 'context': empty text"),
        ((CONTEXT, [], []), r"row 2, column 'answers': no answer"),
        ((CONTEXT, ["mat."], [-4]), r"row 2, column 'answers': a negative answer_start \(.*-4"),
        ((CONTEXT, [""], [2]), r"row 2, column 'answers': an empty answer"),
        ((CONTEXT, ["cat", None], [2, 3]), r"row 2, column 'answers': an empty answer"),
    ],
)
def test_questions_that_cannot_be_learned_from_are_named_or_left_out(row: tuple, message: str) -> None:
    good = (CONTEXT, ["cat", "A cat"], [2, 0])
    raw, rows = questions(good, row, good), ExtractiveQAReader("set")
    with pytest.raises(DataError, match=message):
        rows.read(raw, "train")
    actual = rows.read(raw, "train", "skip")
    assert (actual.ids, actual.skipped, actual.row.tolist()) == (["0", "2"], 1, [0, 2])


@pytest.mark.parametrize("role", ["validation", "test"])
@pytest.mark.parametrize("unanswerable", [False, True])
@pytest.mark.parametrize(
    ("row", "message"),
    [
        (("", ["cat"], [2]), r"row 2, column 'context': empty text"),
        ((CONTEXT, ["mat."], [-4]), r"row 2, column 'answers': a negative answer_start \({.*}\)"),
        ((CONTEXT, ["cat", ""], [2, 2]), r"row 2, column 'answers': an empty answer \({.*}\)"),
        ((CONTEXT, ["cat"], [None]), r"row 2, column 'answers': a null answer_start \({.*}\)"),
    ],
)
def test_what_is_scored_is_never_left_out(role: Role, unanswerable: bool, row: tuple, message: str) -> None:
    raw = questions((CONTEXT, ["cat"], [2]), row)
    with pytest.raises(DataError, match=rf"^set/train\.parquet, {message}$"):
        ExtractiveQAReader("set", unanswerable=unanswerable).read(raw, role, "skip")


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (["a", None, "b"], r"row 2, column 'id': null"),
        (["a", "b", "a"], r"row 3, column 'id': an id that stands twice \('a'\)"),
        ([7, 7, 7], r"row 2, column 'id': an id that stands twice \(7\) \(2 rows in all\)"),
    ],
)
def test_every_question_has_an_id_of_its_own(ids: list, message: str) -> None:
    good = questions(*[(CONTEXT, ["cat"], [2])] * 3).table
    raw, rows = (
        RawTable(good.set_column(0, "id", pa.array(ids)), "set/train.parquet", "digest"),
        ExtractiveQAReader("set"),
    )
    advice = r"; task\.data\.on_bad_row=skip leaves such rows out"
    with pytest.raises(DataError, match=rf"^set/train\.parquet, {message}{advice}$"):
        rows.read(raw, "train")
    with pytest.raises(DataError, match=rf"^set/train\.parquet, {message}$"):
        rows.read(raw, "validation", "skip")
    actual = rows.read(raw, "train", "skip")
    assert actual.ids == list(dict.fromkeys(str(name) for name in ids if name is not None))
    assert actual.skipped == 3 - len(actual.ids)


def test_questions_without_an_answer_are_rows_of_v2() -> None:
    actual = ExtractiveQAReader("set", unanswerable=True).read(questions((CONTEXT, [], [])), "train")
    assert (actual.answers, actual.skipped) == ([[]], 0)


def test_answers_in_another_form_are_told() -> None:
    raw = table(id=["0"], question=["Who?"], context=[CONTEXT], answers=[["cat"]])
    with pytest.raises(DataError, match=r"column 'answers' holds list.*, not SQuAD's lists"):
        ExtractiveQAReader("set").read(raw, "train")


def test_choices_that_are_empty_are_named() -> None:
    rows = MultipleChoiceReader("set", context="a", stem="b", choices=("c", "d"))
    raw = table(a=["x", "x"], b=["", "y"], c=["one", "one"], d=["two", ""], label=[0, 1])
    with pytest.raises(DataError, match=r"row \d, column '[bd]': empty text"):
        rows.read(raw, "train")


LISTED = MultipleChoiceReader("set", context=["a", "b"], options="c", choices=("A", "B"), label="right")
GOOD_LISTED = {"a": ["x", "y"], "b": ["x", "z"], "c": [["one", "two"], ["one", "two"]], "right": ["A", "B"]}


def test_choices_from_one_column_of_lists_and_several_of_text() -> None:
    actual = LISTED.read(table(**GOOD_LISTED), "train")
    assert (actual.contexts, actual.last_part) == (["x", "y"], ["x", "z"])
    assert (actual.choices, actual.labels.tolist()) == ([["one", "two"], ["one", "two"]], [0, 1])
    hidden = {name: column for name, column in GOOD_LISTED.items() if name != "right"}
    assert LISTED.read(table(**hidden), "test").labels.tolist() == [-1, -1]
    three = MultipleChoiceReader(
        "set", context=["a", "b", "a"], stem="b", options="c", choices=("A", "B"), label="right"
    )
    actual = three.read(table(**GOOD_LISTED), "train")
    assert (actual.contexts, actual.last_part) == (["x x", "y z"], ["x", "y"])
    assert actual.choices == [["x one", "x two"], ["z one", "z two"]]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            {"c": [["one", "two"], ["one"]]},
            r"set/train\.parquet, row 2, column 'c': not a list of 2 choices \(\['one'\]\)",
        ),
        ({"c": [["one", "two"], None]}, r"row 2, column 'c': not a list of 2 choices;"),
        ({"c": [["one", " "], ["one", "two"]]}, r"row 1, column 'c': an empty choice"),
        ({"c": [["one", "two"], ["one", None]]}, r"row 2, column 'c': an empty choice"),
        ({"c": ["one", "two"]}, "column 'c' holds string, not lists of texts"),
        ({"c": [[[1], [2]], [[3], [4]]]}, r"column 'c' holds list<.*int64.*>, not lists of texts"),
        ({"right": ["A", "C"]}, r"row 2, column 'right': none of the labels \['A', 'B'\] \('C'\)"),
        (
            {"right": [0, 2]},
            r"row 2, column 'right': a label outside 0 to 1, counted from task.rows.first_label=0 \(2\)",
        ),
        ({"b": ["x", ""]}, r"row 2, column 'b': empty text"),
        ({"c": [["one", "two"], ["long" * 50]]}, r"not a list of 2 choices \(\['long.{60,80}\.\.\.\)"),
    ],
)
def test_what_is_wrong_with_lists_of_choices_is_named(columns: dict[str, list], message: str) -> None:
    raw = table(**{**GOOD_LISTED, **columns})
    with pytest.raises(DataError, match=message):
        LISTED.read(raw, "train")


def test_bad_lists_are_left_out_when_asked_and_stay_in_a_test_split() -> None:
    raw = table(**{**GOOD_LISTED, "c": [["one"], ["one", "two"]]})
    actual = LISTED.read(raw, "train", "skip")
    assert (actual.choices, actual.row.tolist(), actual.skipped) == ([["one", "two"]], [1], 1)
    assert LISTED.read(raw, "test", "skip").choices == [["", ""], ["one", "two"]]


COUNTED = MultipleChoiceReader("set", context="a", choices=("c", "d"), first_label=1)


def test_labels_may_count_from_another_number() -> None:
    columns = {"a": ["x", "y"], "c": ["one", "one"], "d": ["two", "two"]}
    assert COUNTED.read(table(**columns, label=[2, 1]), "train").labels.tolist() == [1, 0]
    assert COUNTED.read(table(**columns, label=[2, -1]), "test").labels.tolist() == [1, -1]
    for wrong in (0, 3, -1):
        with pytest.raises(
            DataError, match=rf"row 2, column 'label': a label outside 1 to 2, .*first_label=1 \({wrong}\)"
        ):
            COUNTED.read(table(**columns, label=[2, wrong]), "train")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"context": []}, r"task\.rows\.context=\[\] is empty"),
        ({"choices": ["c"]}, r"task\.rows\.choices=\['c'\]: at least two choices are needed"),
        ({"choices": ["c", "d", "c"]}, r"task\.rows\.choices names 'c' more than once"),
    ],
)
def test_choices_that_are_none_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        MultipleChoiceReader(**{"dataset": "set", "context": "a", "choices": ["c", "d"], **settings})


def test_rows_without_a_label_are_left_out_of_training_and_dev_alone() -> None:
    """SNLI's pairs on which nobody agreed."""
    raw = table(a=["x", "x", "x"], b=["y", "y", "y"], label=[1, -1, 0])
    for role in ("train", "validation"):
        actual = ROWS.read(raw, role, "skip")  # type: ignore[arg-type]
        assert (actual.labels.tolist(), actual.row.tolist(), actual.skipped) == ([1, 0], [0, 2], 1)
    actual = ROWS.read(raw, "test", "skip")
    assert (actual.labels.tolist(), actual.skipped) == ([1, -1, 0], 0)


@pytest.mark.parametrize(
    ("text", "split", "rows"),
    [
        ("validation", "validation", range(1871)),
        ("validation[:80%]", "validation", range(1497)),  # Story Cloze's
        ("validation[80%:]", "validation", range(1497, 1871)),
        ("train[10:20]", "train", range(10, 20)),
        ("train[1800:5000]", "train", range(1800, 1871)),
        ("train[:]", "train", range(1871)),
        ("train[x:]", "train[x:]", range(1871)),
    ],
)
def test_a_part_of_a_split(text: str, split: str, rows: range) -> None:
    part = SplitSlice.parse(text)
    assert (part.split, part.indices(1871)) == (split, rows)
    raw = RawTable(pa.table({"number": list(range(1871))}), "set/file.parquet", "digest")
    taken = part.apply(raw)
    assert taken.table.column("number").to_pylist() == list(rows)
    assert (taken.origin == raw.origin) == (part.bounds == "")
    assert (taken.digest == raw.digest) == (len(rows) == 1871)  # all rows are the same rows, however they are named


def test_an_empty_part_is_told() -> None:
    raw = RawTable(pa.table({"a": ["x"], "b": ["y"], "label": [0]}), "set/file.parquet", "digest")
    with pytest.raises(DataError, match=r"set/file\.parquet\[80%:\]: zero rows"):
        ROWS.read(SplitSlice.parse("train[80%:]").apply(raw), "train")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "org" / "set" / "sub"
    place.mkdir(parents=True)
    return place


CONTENT = {"a": ['say "hi"', "two\twords"], "label": [0, 1]}


@pytest.mark.parametrize("form", ["parquet", "shards", "jsonl", "csv"])
def test_every_form_is_read(folder: Path, form: str) -> None:
    if form == "parquet":
        pq.write_table(pa.table(CONTENT), folder / "train-00000-of-00001.parquet")
    elif form == "shards":
        for i in range(2):
            rows = {name: values[i : i + 1] for name, values in CONTENT.items()}
            pq.write_table(pa.table(rows), folder / f"train-0000{i}-of-00002.parquet")
    elif form == "jsonl":
        lines = [json.dumps({"a": a, "label": label}) for a, label in zip(*CONTENT.values(), strict=True)]
        (folder / "train.jsonl").write_text("\n".join(lines) + "\n")
    else:
        (folder / "train.csv").write_text('a,label\n"say ""hi""",0\n"two\twords",1\n')
    (folder / "train_extra.parquet").write_text("another split")
    source = LocalSource(str(folder.parents[2]))
    raw = source.load(DatasetRef("org/set", subset="sub"), "train")
    assert raw.table.to_pydict() == (CONTENT if form != "csv" else {**CONTENT, "label": ["0", "1"]})
    found = LabelledTextReader("org/set", "a", labels=["no", "yes"]).read(raw, "train")
    assert (found.text_a, found.labels.tolist()) == (CONTENT["a"], [0, 1])
    assert source.load(DatasetRef("org/set", subset="sub"), "train").digest == raw.digest


def test_tabs_have_no_quotes(folder: Path) -> None:
    (folder / "train.tsv").write_text('a\tlabel\n"open quote\t1\n')
    raw = LocalSource(str(folder.parents[2])).load(DatasetRef("org/set", subset="sub"), "train")
    assert raw.table.to_pydict() == {"a": ['"open quote'], "label": ["1"]}


def test_missing_and_broken_files_are_named(folder: Path) -> None:
    source = LocalSource(str(folder.parents[2]))
    with pytest.raises(DataError, match=r"no file train\*\.parquet.*there is no such folder; .* has "):
        source.load(DatasetRef("org/other", subset="sub"), "train")
    (folder / "validation.parquet").write_bytes(b"PAR1 broken")
    with pytest.raises(DataError, match=r"no file train.*it has validation\.parquet"):
        source.load(DatasetRef("org/set", subset="sub"), "train")
    with pytest.raises(DataError, match=r"validation\.parquet: cannot be read"):
        source.load(DatasetRef("org/set", subset="sub"), "validation")
    with pytest.raises(DataError, match="no such folder"):
        LocalSource("/nowhere/at/all")


def test_hub_without_network_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import datasets

    from protoformer.data.sources.hub import HubSource

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    with pytest.raises(DataError, match=r"hub data set nowhere/nothing.*source=local"):
        HubSource().load(DatasetRef("nowhere/nothing"), "train")


def test_shards_that_are_missing_and_formats_that_are_mixed(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    for name in ("train-00000-of-00003.csv", "train-00002-of-00003.csv"):
        (folder / name).write_text('a,label\n"two\nlines",1\n')
    with pytest.raises(DataError, match="an incomplete set of shards of train"):
        LocalSource(str(tmp_path)).load(DatasetRef("set"), "train")
    (folder / "train-00001-of-00003.csv").write_text("a,label\nx,0\n")
    table = LocalSource(str(tmp_path)).load(DatasetRef("set"), "train").table
    assert table.column("a").to_pylist() == ["two\nlines", "x", "two\nlines"]
    (folder / "train.jsonl").write_text('{"a": "x", "label": 0}\n')
    with pytest.raises(DataError, match="one split in several formats"):
        LocalSource(str(tmp_path)).load(DatasetRef("set"), "train")
