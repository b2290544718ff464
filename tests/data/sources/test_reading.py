"""Files as people have them: what is asked for as text is text, and rows that cannot be read are named or counted."""

import bz2
import codecs
import gzip
import json
import lzma
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from protoformer.data.examples.extractive_qa import ExtractiveQAReader
from protoformer.data.examples.labelled import LabelledTextReader
from protoformer.data.examples.parallel_text import ParallelTextReader
from protoformer.data.sources.local import LocalSource
from protoformer.data.sources.source import DatasetRef, RawTable, SplitSlice
from protoformer.errors import ConfigurationError, DataError

READER = LabelledTextReader("set", "text", labels=["bad", "good"])


def raw(folder: Path, name: str, content: bytes | str, **settings: Any) -> RawTable:
    """The rows of one file."""
    (folder / "set").mkdir(exist_ok=True)
    (folder / "set" / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return LocalSource(str(folder), **settings).load(DatasetRef("set"), name.partition(".")[0])


def texts(folder: Path, name: str, content: bytes | str, **settings: Any) -> list[str]:
    return READER.read(raw(folder, name, content, **settings), "train").text_a


@pytest.mark.parametrize(
    "words",
    [
        ["007", "12"],
        ["true", "false"],
        ["null", "NA"],
        ["NaN", "1e5"],
        ["2024-01-31", "12:30"],
        ["-", "1,5"],
        ["0x1F", "inf"],
    ],
)
def test_a_text_column_of_csv_and_tsv_is_never_guessed(tmp_path: Path, words: list[str]) -> None:
    comma = "text,label\n" + "".join(f'"{word}",1\n' for word in words)
    assert texts(tmp_path, "a.csv", comma) == words
    assert texts(tmp_path, "b.tsv", "text\tlabel\n" + "".join(f"{word}\t0\n" for word in words)) == words


COMPRESSED = [(".gz", gzip.compress), (".bz2", bz2.compress), (".xz", lzma.compress)]


@pytest.mark.parametrize(("suffix", "compress"), COMPRESSED)
def test_compressed_files_are_read(tmp_path: Path, suffix: str, compress: Any) -> None:
    assert texts(tmp_path, f"a.csv{suffix}", compress(b"text,label\nx,1\n")) == ["x"]
    assert texts(tmp_path, f"b.jsonl{suffix}", compress(b'{"text": "x", "label": 1}\n')) == ["x"]
    with pytest.raises(DataError, match=rf"c\.csv{suffix}: cannot be read"):
        raw(tmp_path, f"c.csv{suffix}", compress(b"text,label\nx,1\n" * 99)[:-12])
    with pytest.raises(DataError, match=rf"d\.csv{suffix}: cannot be read"):
        raw(tmp_path, f"d.csv{suffix}", b"text,label\nx,1\n")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_a_byte_order_mark_is_believed(tmp_path: Path, encoding: str) -> None:
    assert texts(tmp_path, "a.csv", "text,label\né中,1\n".encode(encoding)) == ["é中"]
    assert texts(tmp_path, "b.jsonl", '{"text": "é中", "label": 1}\n'.encode(encoding)) == ["é中"]
    assert texts(tmp_path, "c.tsv", codecs.BOM_UTF16_BE + "text\tlabel\né中\t1\n".encode("utf-16-be")) == ["é中"]


def test_other_encodings_are_named_read_on_request_or_left_out(tmp_path: Path) -> None:
    latin = "text,label\nplain,1\ncafé,0\n".encode("latin-1")
    table = raw(tmp_path, "a.csv", latin)
    with pytest.raises(
        DataError, match=r"a\.csv, line 3: column 'text': byte 0xE9 is not UTF-8; source\.encoding=latin-1"
    ):
        READER.read(table, "train")
    kept = READER.read(table, "train", "skip")
    assert (kept.text_a, kept.skipped, kept.reasons) == (["plain"], 1, {"unreadable": 1})
    assert texts(tmp_path, "a.csv", latin, encoding="latin-1") == ["plain", "café"]
    with pytest.raises(DataError, match=r"b\.csv: holds zero bytes.*source\.encoding=utf-16-le"):
        raw(tmp_path, "b.csv", "text,label\nx,1\n".encode("utf-16-le"))
    assert texts(tmp_path, "b.csv", "text,label\nx,1\n".encode("utf-16-le"), encoding="utf-16-le") == ["x"]
    for wrong in ("base64", "latin-99", "é\0"):
        with pytest.raises(ConfigurationError, match="no such encoding"):
            LocalSource(str(tmp_path), encoding=wrong)


@pytest.mark.parametrize(
    ("name", "content", "line", "problem", "left"),
    [
        ("a.tsv", "text\tlabel\nx\t1\ncut\n0\ny\t0\n", 3, "1 field where the header has 2 (2 rows in all)", ["x", "y"]),
        ("a.tsv", "text\tlabel\nx\t1\n\n\na\tb\t1\n", 5, "3 fields where the header has 2", ["x"]),
        ("a.csv", 'text,label\nx,1\n"two\nlines",0\n"open,1\ny,0\n', 5, "a quote that is opened and never closed", None),
        ("a.csv", 'text,label\n"an "odd" one",1\nz,0\n', 2, "text after a closing quote", ["z"]),
        ("a.csv", "text,label\nx,1,2\nz,0\n", 2, "3 fields where the header has 2", ["z"]),
        ("a.jsonl", '{"text": "x", "label": 1}\n{"text": "y"\n\n{"text": "z", "label": 0}\n', 2, "not JSON", ["x", "z"]),
        ("a.jsonl", '{"text": "x", "label": 1}\n["y", 1]\n', 2, "an array, where an object is expected", ["x"]),
        ("a.jsonl", '{"text": "x", "label": 1}\n{"text": "y", "text": "z"}\n', 2, "column 'text' stands twice", ["x"]),
        ("a.jsonl", '{"text": "x", "label": 1}\n{"text": "\\ud83d", "label": 0}\n', 2, "half of a surrogate pair", ["x"]),
        ("a.jsonl", b'{"text": "x", "label": 1}\n{"text": "\xff", "label": 0}\n', 2, "byte 0xFF is not UTF-8", ["x"]),
    ],
)  # fmt: skip
def test_broken_rows_are_named_by_line_or_left_out(
    tmp_path: Path, name: str, content: bytes | str, line: int, problem: str, left: list[str] | None
) -> None:
    table = raw(tmp_path, name, content)
    with pytest.raises(DataError) as error:
        READER.read(table, "train")
    assert f"{name}, line {line}: " in str(error.value)
    assert problem in str(error.value)
    assert "\n" not in str(error.value)
    kept = READER.read(table, "train", "skip")
    assert kept.text_a == (left or ["x", "two\nlines", "y"])
    assert kept.reasons == {"unreadable": kept.skipped}
    assert kept.skipped + len(kept.text_a) == table.table.num_rows


def test_rows_of_a_test_split_keep_their_numbers_whatever_is_broken(tmp_path: Path) -> None:
    table = raw(tmp_path, "test.tsv", "text\tlabel\nx\t1\ncut\ny\t-\n")
    kept = READER.read(table, "test", "skip")
    assert (kept.text_a, kept.labels.tolist(), kept.row.tolist()) == (["x", "", "y"], [1, -1, -1], [0, 1, 2])


def test_names_of_columns(tmp_path: Path) -> None:
    for name, content in (("a.csv", "text,label,text\n1,2,3\n"), ("z.tsv", "text\tlabel\ttext\n1\t2\t3\n")):
        with pytest.raises(DataError, match=rf"{name}: column 'text' stands twice in text, label, text; rename"):
            raw(tmp_path, name, content)
    doubled = pa.Table.from_arrays([pa.array(["x"]), pa.array(["y"])], names=["text", "text"])
    pq.write_table(doubled, tmp_path / "set" / "b.parquet")
    with pytest.raises(DataError, match=r"b\.parquet: column 'text' stands twice"):
        LocalSource(str(tmp_path)).load(DatasetRef("set"), "b")
    for content in ("", "\n\n", ",,\n"):
        with pytest.raises(DataError, match=r"c\.csv, line 1: no names of columns"):
            raw(tmp_path, "c.csv", content)
    assert raw(tmp_path, "d.csv", ",text,label\n0,x,1\n").table.column_names == ["column 1", "text", "label"]
    assert texts(tmp_path, "e.csv", "text;label\nx, y;1\n") == [
        "x, y"
    ]  # of a spreadsheet where a comma is a decimal point
    assert texts(tmp_path, "f.csv", "text,label\r\nx,1\r\ny,0\r\n") == ["x", "y"]
    assert texts(tmp_path, "g.csv", "text,label\rx,1\ry,0\r") == ["x", "y"]


ROWS = [{"text": "x", "label": 1}, {"text": "y", "label": 0}]


@pytest.mark.parametrize(
    "content",
    [
        json.dumps(ROWS),
        json.dumps(ROWS, indent=1),
        json.dumps({"version": "1", "data": ROWS}, indent=2),
        json.dumps({"data": ROWS}),
        "\n".join(json.dumps(row, indent=1) for row in ROWS),
        "\n\n".join(map(json.dumps, ROWS)),
    ],
)
def test_every_form_of_json_is_read(tmp_path: Path, content: str) -> None:
    for name in ("a.json", "b.jsonl"):
        found = READER.read(raw(tmp_path, name, content), "train")
        assert (found.text_a, found.labels.tolist()) == (["x", "y"], [1, 0])


TABLE = r"a\.json: one object that holds a whole table .*orient='records', lines=True"
TABLES: list[dict[str, Any]] = [  # of pandas' to_json: columns, index, split, and a dictionary of lists
    {"text": {"0": "x", "1": "y"}, "label": {"0": 1, "1": 0}},
    {"0": ROWS[0], "1": ROWS[1]},
    {"columns": ["text", "label"], "index": [0, 1], "data": [["x", 1], ["y", 0]]},
    {"text": ["x", "y"], "label": [1, 0]},
]


def test_json_that_is_none_is_told(tmp_path: Path) -> None:
    for content, message in (
        ('[{"text": "x"}, {"text": ', r"a\.json: not JSON \(Expecting value"),
        ("", r"a\.json: no rows"),
        ("[]", r"a\.json: no rows"),
        ("[" * 200_000, r"a\.json: not JSON \(nested too deeply"),
        ("nothing\nat all\n", r"a\.json, line 1: not JSON \(.*no row can be read"),
        *((json.dumps(table, indent=indent), TABLE) for table in TABLES for indent in (None, 1)),
    ):
        with pytest.raises(DataError, match=message):
            raw(tmp_path, "a.json", content)


def test_rows_of_many_megabytes(tmp_path: Path) -> None:
    long = "The cat sat on the mat. " * 130_000
    csv = "text,label\nx,1\n" + f'"{long}",0\ny,1\n'
    assert texts(tmp_path, "a.csv", csv) == ["x", long, "y"]
    rows = [{"text": text, "label": 1} for text in ("x", long, "y")]
    assert texts(tmp_path, "b.jsonl", "".join(json.dumps(row) + "\n" for row in rows)) == ["x", long, "y"]


def column_types() -> dict[str, pa.Array]:
    days = pa.array([1, 2], pa.int32())
    integers = (pa.int8(), pa.uint8(), pa.int16(), pa.uint16(), pa.int32(), pa.uint32(), pa.int64(), pa.uint64())
    return {
        **{str(kind): pa.array([1, 0], kind) for kind in integers},
        **{str(kind): pa.array([1.0, 0.0], kind) for kind in (pa.float32(), pa.float64())},
        "float16": pa.array(np.array([1, 0], np.float16)),
        "bool": pa.array([True, False]),
        "decimal": pa.array([Decimal("1.00"), Decimal("0.00")]),
        "string": pa.array(["1", "0"]),
        "large_string": pa.array(["good", "bad"], pa.large_string()),
        "string_view": pa.array(["good", "bad"], pa.string_view()),
        "binary": pa.array([b"good", b"bad"], pa.binary()),
        "large_binary": pa.array([b"1", b"0"], pa.large_binary()),
        "fixed_size_binary": pa.array([b"1", b"0"], pa.binary(1)),
        "dictionary": pa.array(["good", "bad"]).dictionary_encode(),
        "truth words": pa.array(["TRUE", "False"]),
        "float words": pa.array(["1.0", "0.0"]),
        "dates": days.cast(pa.date32()),
    }


@pytest.mark.parametrize("name", list(column_types()))
def test_a_label_and_a_text_of_every_arrow_type(tmp_path: Path, name: str) -> None:
    column = column_types()[name]
    (tmp_path / "set").mkdir()
    pq.write_table(pa.table({"text": column, "label": column}), tmp_path / "set" / "train.parquet")
    table = LocalSource(str(tmp_path)).load(DatasetRef("set"), "train")
    if name == "dates":
        with pytest.raises(DataError, match=r"row 1, column 'label': none of the labels"):
            READER.read(table, "train")
        return
    found = READER.read(table, "train")
    assert found.labels.tolist() == [1, 0]
    assert all(isinstance(text, str) and text for text in found.text_a)


def test_columns_without_a_value_and_bytes_that_are_no_text(tmp_path: Path) -> None:
    table = RawTable(pa.table({"text": pa.nulls(2), "label": [0, 1]}), "t", "")
    with pytest.raises(DataError, match=r"t, row 1, column 'text': null \(2 rows in all\)"):
        READER.read(table, "train")
    invalid = pa.array([b"fine", b"\xff"], pa.binary())
    for column in (invalid, pa.Array.from_buffers(pa.string(), 2, invalid.buffers())):
        table = RawTable(pa.table({"text": column, "label": [0, 1]}), "t", "")
        with pytest.raises(DataError, match=r"t, row 2, column 'text': not UTF-8"):
            READER.read(table, "train")
        assert READER.read(table, "train", "skip").text_a == ["fine"]
    missing = RawTable(pa.table({"text": ["x", "y"], "label": [1.0, None]}), "t", "")
    assert READER.read(missing, "train", "skip").labels.tolist() == [1]
    not_a_number = RawTable(pa.table({"text": ["x", "y"], "label": [1.0, float("nan")]}), "t", "")
    assert READER.read(not_a_number, "test").labels.tolist() == [1, -1]


@pytest.mark.parametrize(
    ("names", "words", "classes"),
    [
        (["no", "yes"], ["true", "False"], [1, 0]),
        (["yes", "no"], ["True", "false"], [0, 1]),
        (["1", "2", "3"], ["1", "3.0"], [0, 2]),
        (["a", "b", "c"], ["1", "2.0"], [1, 2]),
        (["a", "b"], [" b ", "a"], [1, 0]),
    ],
)
def test_labels_are_words_first_numbers_second(names: list[str], words: list[str], classes: list[int]) -> None:
    reader = LabelledTextReader("set", "text", labels=names)
    table = RawTable(pa.table({"text": ["x", "y"], "label": words}), "t", "")
    assert reader.read(table, "train").labels.tolist() == classes


def test_unknown_labels_are_left_out_and_counted(tmp_path: Path) -> None:
    table = raw(tmp_path, "a.csv", "text,label\nx,good\ny,-\nz,2\n,good\nw,\n")
    kept = READER.read(table, "train", "skip")
    assert (kept.text_a, kept.skipped) == (["x"], 4)
    assert kept.reasons == {"an unknown label": 2, "empty text (text)": 1, "null (label)": 1}


def test_regression_reads_numbers_from_text(tmp_path: Path) -> None:
    reader = LabelledTextReader("set", "text", labels=None)
    table = raw(tmp_path, "a.csv", "text,label\nx,2.5\ny,3\n")
    assert reader.read(table, "train").labels.tolist() == [2.5, 3.0]
    table = raw(tmp_path, "a.csv", "text,label\nx,2.5\ny,many\n")
    with pytest.raises(DataError, match=r"line 3, column 'label': a label that is no number \('many'\)"):
        reader.read(table, "train")


CONTEXT = "Ada wrote notes in 1843."


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ({"text": ["Ada"], "answer_start": [0.0]}, (["Ada"], [0])),
        ([{"text": "Ada", "answer_start": 0}, {"text": "notes", "answer_start": 10}], (["Ada", "notes"], [0, 10])),
        ({"text": "Ada", "answer_start": 0}, (["Ada"], [0])),
        ({"text": [1843], "answer_start": [19]}, (["1843"], [19])),
        ({"text": ["Ada"], "answer_start": ["0"]}, "an answer_start that is no whole number ('0')"),
        ({"text": ["Ada"], "answer_start": [0.5]}, "an answer_start that is no whole number (0.5)"),
        ({"text": ["Ada"], "answer_start": [True]}, "an answer_start that is no whole number (True)"),
        ({"text": ["Ada"], "answer_start": [None]}, "an answer that does not stand in the context"),
        ({"text": ["Ada", "notes"], "answer_start": [0]}, "an answer that does not stand in the context"),
        ({"text": [["Ada"]], "answer_start": [0]}, "an answer that is no text"),
        ({"text": ["Ada"]}, "an answer that does not stand in the context"),
        (["Ada"], "not SQuAD's `text` and `answer_start`"),
    ],
)
def test_answers_of_other_types_are_read_or_named(tmp_path: Path, answers: Any, expected: Any) -> None:
    good = {"id": "g", "question": "Who?", "context": CONTEXT, "answers": {"text": ["Ada"], "answer_start": [0]}}
    rows = [good, {**good, "id": "b", "answers": answers}]
    table = raw(tmp_path, "train.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    reader = ExtractiveQAReader("set")
    if isinstance(expected, tuple):
        found = reader.read(table, "train")
        assert (found.answers[1], found.starts[1]) == expected
        return
    with pytest.raises(DataError) as error:
        reader.read(table, "train")
    assert f"train.jsonl, line 2, column 'answers': {expected}" in str(error.value)
    assert reader.read(table, "train", "skip").ids == ["g"]


def test_squad_s_own_file_is_read_as_the_hub_s_rows(tmp_path: Path) -> None:
    questions = [
        {"id": "a", "question": "Who?", "is_impossible": False, "answers": [{"text": "Ada", "answer_start": 0}]},
        {"id": "b", "question": "Why?", "is_impossible": True, "answers": [], "plausible_answers": []},
    ]
    content = {"version": "v2.0", "data": [{"title": "T", "paragraphs": [{"context": CONTEXT, "qas": questions}]}]}
    for indent in (None, 2):
        table = raw(tmp_path, "train.json", json.dumps(content, indent=indent))
        found = ExtractiveQAReader("set", unanswerable=True).read(table, "train")
        assert (found.ids, found.answers, found.starts) == (["a", "b"], [["Ada"], []], [[0], []])
    broken = {"data": [{"paragraphs": [{"context": CONTEXT}]}]}
    with pytest.raises(DataError, match=r"data\[0\]\.paragraphs\[0\] has no list `qas`"):
        raw(tmp_path, "train.json", json.dumps(broken))


def test_translations_from_json_and_parquet(tmp_path: Path) -> None:
    reader = ParallelTextReader("set", "en", "de", column="translation")
    lines = [
        {"translation": {"en": "a", "de": "b"}},
        {"translation": {"en": "c", "de": 7}},
        {"translation": {"en": "d"}},
    ]
    table = raw(tmp_path, "train.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(DataError, match=r"train\.jsonl, line 3, language 'de': an empty line"):
        reader.read(table, "train")
    kept = reader.read(table, "train", "skip")
    assert (kept.sources, kept.targets, kept.reasons) == (["a", "c"], ["b", "7"], {"an empty line (de)": 1})


def test_a_part_of_a_split_keeps_the_lines_of_the_file(tmp_path: Path) -> None:
    table = raw(tmp_path, "train.csv", 'text,label\n"a\nb",1\nx,0\ny,1\nz,?\nw\n')
    part = SplitSlice.parse("train[2:]").apply(table)
    with pytest.raises(DataError, match=r"train\.csv, line 7: 1 field"):
        READER.read(part, "train")
    part = SplitSlice.parse("train[2:4]").apply(table)
    with pytest.raises(DataError, match=r"train\.csv, line 6, column 'label': none of the labels"):
        READER.read(part, "train")


def test_types_that_differ_between_files_and_rows_are_one_column(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    rows = [[{"text": "x", "label": 1}], [{"text": 2024, "label": "good"}], [{"text": "z", "label": True, "more": [1]}]]
    for number, each in enumerate(rows):
        path = tmp_path / "set" / f"train-{number}-of-3.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in each))
    found = READER.read(LocalSource(str(tmp_path)).load(DatasetRef("set"), "train"), "train")
    assert (found.text_a, found.labels.tolist()) == (["x", "2024", "z"], [1, 1, 1])


def test_one_row_of_lists_and_objects_is_a_row(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"text": "x", "tokens": ["a", "b"]},
        {"tokens": ["a", "b"]},
        {"a": {"x": 1}, "b": {"y": 1}},
    ]
    for row in (*rows, {"a": [1], "b": [2]}):
        assert raw(tmp_path, "a.jsonl", json.dumps(row) + "\n").table.num_rows == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (gzip.compress(b"text,label\nx,1\n"), "compressed by gzip; name it a.csv.gz"),
        (bz2.compress(b"text,label\nx,1\n"), "compressed by bzip2; name it a.csv.bz2"),
        (lzma.compress(b"text,label\nx,1\n"), "compressed by xz; name it a.csv.xz"),
        (b"PK\x03\x04\x14\x00", "a zip archive or an Excel file"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1", "an Excel file of the old format"),
        (b"PAR1\x15\x04", "parquet; name it a.parquet"),
    ],
)
def test_a_file_of_another_format_is_named_as_what_it_is(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(DataError, match=rf"a\.csv: not a text file: {message}"):
        raw(tmp_path, "a.csv", content)


def test_names_of_columns_with_spaces_are_seen_to_have_them(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no column 'text' \(task\.rows\.text_a\).*; it has ' text ', 'label '$"):
        READER.read(raw(tmp_path, "a.csv", " text ,label \nx,1\n"), "train")


@pytest.mark.parametrize("labels", [[], ["a"], ["a", "a"], ["a", "b", "a"]])
def test_labels_are_two_different_ones_at_least(labels: list[str]) -> None:
    with pytest.raises(ConfigurationError, match=r"task\.rows\.labels=\[.*a classifier needs two labels"):
        LabelledTextReader("set", "text", labels=labels)
