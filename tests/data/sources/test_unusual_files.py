"""Files that are nearly right: read as what they mean, or named; never as something else without a word."""

import json
import logging
import os
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from protoformer.data.examples.documents import Corpus
from protoformer.data.examples.extractive_qa import ExtractiveQAReader
from protoformer.data.examples.labelled import LabelledTextReader
from protoformer.data.examples.multiple_choice import MultipleChoiceReader
from protoformer.data.examples.parallel_text import ParallelTextReader
from protoformer.data.learned_vocabulary import LearnedVocabulary
from protoformer.data.sources.files import FilesSource
from protoformer.data.sources.local import LocalSource
from protoformer.data.sources.parallel import ParallelSource
from protoformer.data.sources.source import DatasetRef, RawTable
from protoformer.errors import DataError

READER = LabelledTextReader("set", "text", labels=["bad", "good"])


def raw(folder: Path, name: str, content: bytes | str) -> RawTable:
    """The rows of one file."""
    (folder / "set").mkdir(exist_ok=True)
    (folder / "set" / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return LocalSource(str(folder)).load(DatasetRef("set"), name.partition(".")[0])


def lines(*rows: Any) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def corpus(source: FilesSource, on_bad_row: Any = "error") -> list[str]:
    return list(Corpus([{"dataset": "set"}]).documents(source, "train", on_bad_row))


def test_an_object_in_a_column_of_texts_is_named_and_leaves_the_texts_as_they_are(tmp_path: Path) -> None:
    rows = [{"text": "plain", "label": "good"}, {"text": {"x": 1}, "label": "bad"}, {"text": 7, "label": ["bad"]}]
    table = raw(tmp_path, "a.jsonl", lines(*rows))
    with pytest.raises(DataError, match=r"a\.jsonl, line 2, column 'text': a list or an object, where a single value"):
        READER.read(table, "train")
    kept = READER.read(table, "train", "skip")
    assert (kept.text_a, kept.labels.tolist(), kept.skipped) == (["plain"], [1], 2)
    source = FilesSource(str(tmp_path / "set" / "a.jsonl"))
    with pytest.raises(DataError, match=r"a\.jsonl, line 2, column 'text': a list or an object"):
        corpus(source)
    assert corpus(source, "skip") == ["plain", "7"]
    translations = [{"en": "a", "de": "b"}, {"en": "c", "de": ["d"]}]
    for column, each in ((None, translations), ("translation", [{"translation": row} for row in translations])):
        reader = ParallelTextReader("set", "en", "de", column=column)
        assert reader.read(raw(tmp_path, "b.jsonl", lines(*each)), "train", "skip").targets == ["b"]


def test_a_bar_and_a_header_with_quoted_commas(tmp_path: Path) -> None:
    assert READER.read(raw(tmp_path, "a.csv", "text|label\nx, y|1\n"), "train").text_a == ["x, y"]
    table = raw(tmp_path, "b.csv", '"a, b";text;label\n1;x;0\n')
    assert table.table.column_names == ["a, b", "text", "label"]


def test_lines_that_end_at_carriage_returns(tmp_path: Path) -> None:
    table = raw(tmp_path, "a.tsv", "text\tlabel\rx\t1\ry\t7\r")
    with pytest.raises(DataError, match=r"a\.tsv, line 3, column 'label': a label outside"):
        READER.read(table, "train")
    (tmp_path / "c.txt").write_bytes(b"one\rmore\r\rtwo\r")
    assert corpus(FilesSource(str(tmp_path / "c.txt"))) == ["one\nmore", "two"]
    (tmp_path / "train.en").write_bytes(b"a\rb\r")
    (tmp_path / "train.de").write_bytes(b"c\rd\r")
    assert ParallelSource(str(tmp_path)).load(DatasetRef("set"), "train").table.num_rows == 2
    (tmp_path / "d.txt").write_bytes(b"one\rmore\n\ntwo\n")  # a carriage return within a line
    assert len(corpus(FilesSource(str(tmp_path / "d.txt")))) == 2


@pytest.mark.parametrize(
    ("names", "words", "classes"),
    [
        (["1", "0"], ["False", "true"], [1, 0]),
        (["-1", "1"], ["-1.0", "1.0"], [0, 1]),
        (["-1", "0", "1"], ["1.0", "0.0", "-1"], [2, 1, 0]),
        (["0.5", "1", "1.5"], ["1.0", "1.50", "0.5"], [1, 2, 0]),
        (["0", "1", "2+"], ["1.0", "2+"], [1, 2]),
    ],
)
def test_numbers_that_are_names_of_labels(names: list[str], words: list[str], classes: list[int]) -> None:
    reader = LabelledTextReader("set", "text", labels=names)
    table = RawTable(pa.table({"text": ["x"] * len(words), "label": words}), "t", "")
    assert reader.read(table, "train").labels.tolist() == classes
    with pytest.raises(DataError, match="label outside"):
        reader.read(RawTable(pa.table({"text": ["x"], "label": ["2.0"]}), "t", ""), "train")


def test_classes_that_the_file_names_in_another_order(tmp_path: Path) -> None:
    def written(classes: Any) -> RawTable:
        features = {"label": {"names": classes, "_type": "ClassLabel"}}
        metadata = {"huggingface": json.dumps({"info": {"features": features}})}
        table = pa.table({"text": ["x", "y"], "label": [0, 1]}).replace_schema_metadata(metadata)
        (tmp_path / "set").mkdir(exist_ok=True)
        pq.write_table(table, tmp_path / "set" / "train.parquet")
        return LocalSource(str(tmp_path)).load(DatasetRef("set"), "train")

    for classes, labels in (
        (["bad", "good"], [0, 1]),
        (["Good", "bad"], [1, 0]),
        (["neg", "pos"], [0, 1]),
        (["good", "bad", "so-so"], [1, 0]),  # the words decide, not the numbers
        (["bad", "good", "so-so"], [0, 1]),
        (None, [0, 1]),
    ):
        assert READER.read(written(classes), "train").labels.tolist() == labels


def test_a_negative_score_is_a_label_of_a_regression() -> None:
    reader = LabelledTextReader("set", "text", labels=None)
    table = RawTable(pa.table({"text": ["x", "y", "z"], "label": [-1.0, -0.5, 1.0]}), "t", "")
    for role in ("train", "test"):
        assert reader.read(table, role).labels.tolist() == [-1.0, -0.5, 1.0]  # type: ignore[arg-type]
    hidden = RawTable(pa.table({"text": ["x", "y"], "label": [-1.0, 3.0]}), "t", "")
    with pytest.raises(DataError, match="hidden label"):
        reader.read(hidden, "train")


def test_times_in_a_zone_that_nobody_knows() -> None:
    column = pa.array([0], pa.timestamp("ns", "Mars/Base"))
    table = RawTable(pa.table({"text": column, "label": [1]}), "t", "")
    with pytest.raises(DataError, match=r"t: column 'text' holds timestamp\[ns, tz=Mars/Base\], not text"):
        READER.read(table, "train")


@pytest.mark.parametrize("labels", [["A", "B"], ["A", "A", "B"], ["A", None, "B"], "ABC"])
def test_names_of_choices_that_do_not_fit_the_choices(tmp_path: Path, labels: Any) -> None:
    row = {"question": "q", "choices": {"text": ["x", "y", "z"], "label": labels}, "label": "A"}
    reader = MultipleChoiceReader("set", "question", options="choices", choices=["A", "B", "C"])
    with pytest.raises(DataError, match=r"line 1, column 'choices': labels that do not name each choice once"):
        reader.read(raw(tmp_path, "a.jsonl", lines(row)), "train")


def test_questions_whose_answers_are_missing_or_contradict(tmp_path: Path) -> None:
    answer = [{"text": "Ada", "answer_start": 0}]

    def file(**keys: Any) -> RawTable:
        good = {"id": "g", "question": "Who?", "answers": answer, "is_impossible": False}
        paragraph = {"context": "Ada wrote.", "qas": [good, {"id": "b", "question": "Who?", **keys}]}
        return raw(tmp_path, "train.json", json.dumps({"data": [{"paragraphs": [paragraph]}]}))

    reader = ExtractiveQAReader("set", unanswerable=True)
    for keys, message in (
        ({}, "column 'answers': null; a question without an answer has empty lists"),
        ({"answers": answer, "is_impossible": True}, "question 'b': is_impossible is true, and it has an answer"),
        ({"answers": [], "is_impossible": False}, "question 'b': is_impossible is false, and it has none"),
    ):
        with pytest.raises(DataError, match=rf"train\.json, row 2.*{message}"):
            reader.read(file(**keys), "train")
        assert reader.read(file(**keys), "train", "skip").ids == ["g"]
    assert reader.read(file(answers=[], is_impossible=True), "train").answers == [["Ada"], []]
    cell = json.dumps({"text": ["Ada"], "answer_start": [0]}).replace('"', '""')
    table = raw(tmp_path, "c.csv", f'id,question,context,answers\n1,Who?,Ada wrote.,"{cell}"\n')
    assert reader.read(table, "train").answers == [["Ada"]]
    articles = [{"paragraphs": []}, {"title": "T"}]
    with pytest.raises(DataError, match=r"data\[1\] has no list `paragraphs`"):
        raw(tmp_path, "train.json", json.dumps({"data": articles}))


def test_one_file_by_several_names_is_read_once_and_never_validated_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "a.txt"
    path.write_text("one\n\ntwo\n", encoding="utf-8")
    (tmp_path / "link.txt").symlink_to(path)
    os.link(path, tmp_path / "hard.txt")
    shutil.copy(path, tmp_path / "copy.txt")
    assert corpus(FilesSource([str(path), "a.txt", "link.txt", "hard.txt"])) == ["one", "two"]
    for other in ("a.txt", "link.txt", "hard.txt", "copy.txt"):
        with pytest.raises(DataError, match=r"source\.validation: what is validated on is not trained on"):
            FilesSource(str(path), other)
    (tmp_path / "other.txt").write_text("six\n\nten\n", encoding="utf-8")
    assert FilesSource(str(path), "other.txt").validation_split == "validation"


def test_a_file_beside_its_compressed_self(tmp_path: Path) -> None:
    raw(tmp_path, "train.csv", "text,label\nx,1\n")
    with pytest.raises(DataError, match=r"train\.csv, train\.csv\.gz: one file twice"):
        raw(tmp_path, "train.csv.gz", b"")


def test_a_parquet_column_whose_name_begins_like_the_text_s(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text.raw": ["wrong"], "text": ["right"]}), tmp_path / "a.parquet")
    assert corpus(FilesSource(str(tmp_path / "a.parquet"))) == ["right"]


def test_a_corpus_with_rows_left_out_is_another_corpus(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\n", encoding="utf-8")
    source = FilesSource(str(tmp_path / "a.txt"))
    digests = {
        Corpus([{"dataset": "set"}]).documents(source, "train", each).digest  # type: ignore[arg-type]
        for each in ("error", "skip")
    }
    assert len(digests) == 2


def test_a_vocabulary_of_text_that_cannot_be_read_names_the_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for language in ("en", "de"):
        (tmp_path / f"train.{language}").write_bytes("é\né\n".encode("latin-1"))
    reader = ParallelTextReader("set", "en", "de")
    with caplog.at_level(logging.INFO), pytest.raises(DataError, match=r"train\.de, line 1: byte 0xE9 is not UTF-8"):
        LearnedVocabulary(300).learn(reader, ParallelSource(str(tmp_path)), "train", tmp_path)


def test_nan_among_texts_is_a_missing_text_and_its_word_is_a_word(tmp_path: Path) -> None:
    rows = '{"text": NaN, "label": 1}\n{"text": "NaN", "label": 1}\n{"text": "null", "label": 0}\n'
    kept = READER.read(raw(tmp_path, "a.jsonl", rows), "train", "skip")
    assert (kept.text_a, kept.labels.tolist(), kept.reasons) == (["NaN", "null"], [1, 0], {"null (text)": 1})
    with pytest.raises(DataError, match=r"a\.jsonl, line 1, column 'text': null"):
        READER.read(raw(tmp_path, "a.jsonl", rows), "train")
    numbers = RawTable(pa.table({"text": [1.5, float("nan")], "label": [0, 1]}), "t", "")
    assert READER.read(numbers, "train", "skip").text_a == ["1.5"]


def test_a_zero_byte_is_named_by_its_line_wherever_it_is(tmp_path: Path) -> None:
    for before in (0, 3000):
        text = "text,label\n" + "x,1\n" * before + "a\0b,1\ny,0\n"
        table = raw(tmp_path, "a.csv", text)
        with pytest.raises(DataError, match=rf"a\.csv, line {before + 2}: a zero byte"):
            READER.read(table, "train")
        assert READER.read(table, "train", "skip").text_a == ["x"] * before + ["y"]
        (tmp_path / "c.txt").write_text("x\n\n" * before + "a\0b\n\ny\n")
        assert corpus(FilesSource(str(tmp_path / "c.txt")), "skip") == ["x"] * before + ["y"]
    with pytest.raises(DataError, match="UTF-16 without a byte order mark"):
        raw(tmp_path, "b.csv", "text,label\na,1\n".encode("utf-16-le"))


@pytest.mark.parametrize(
    ("names", "words", "classes"),
    [
        (["no", "yes"], ["YES", "No"], [1, 0]),
        (["a", "A"], ["A", "a"], [1, 0]),
        (["Entailment", "other"], ["entailment"], [0]),
    ],
)
def test_labels_in_another_case(names: list[str], words: list[str], classes: list[int]) -> None:
    reader = LabelledTextReader("set", "text", labels=names)
    table = RawTable(pa.table({"text": ["x"] * len(words), "label": words}), "t", "")
    assert reader.read(table, "train").labels.tolist() == classes


def test_lists_and_dictionaries_as_python_prints_them(tmp_path: Path) -> None:
    """What pandas writes into a CSV."""
    answers = {"text": ["cat's"], "answer_start": [4]}
    quoted = str(answers).replace('"', '""')
    questions = f'id,question,context,answers\n1,who,the cat\'s mat,"{quoted}"\n'
    read = ExtractiveQAReader("set").read(raw(tmp_path, "a.csv", questions), "train")
    assert (read.answers, read.starts) == ([["cat's"]], [[4]])
    choices = MultipleChoiceReader("set", context="q", options="o", choices=["A", "B"], label="l")
    kept = choices.read(raw(tmp_path, "b.csv", "q,o,l\nx,\"['w', 'x']\",B\n"), "train")
    assert (kept.choices, kept.labels.tolist()) == ([["w", "x"]], [1])
    pairs = ParallelTextReader("set", "en", "de", column="translation")
    table = raw(tmp_path, "c.csv", "translation\n\"{'en': 'a', 'de': None}\"\n\"{'en': 'a', 'de': 'b'}\"\n")
    assert pairs.read(table, "train", "skip").targets == ["b"]
    code = raw(tmp_path, "d.csv", "q,o,l\nx,\"[print('w'), 'x']\",B\n")
    with pytest.raises(DataError, match="not lists of texts"):
        choices.read(code, "train")
