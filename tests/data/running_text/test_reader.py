"""Rows as running text, and the counts of the text as it was published."""

from typing import Any

import pyarrow as pa
import pytest

from protoformer.data.running_text.reader import RunningTextReader
from protoformer.data.sources.source import RawTable
from protoformer.errors import ConfigurationError, DataError


def raw(texts: list[Any], column: str = "text") -> RawTable:
    return RawTable(pa.table({column: pa.array(texts, pa.string())}), "rows.parquet", "digest")


def test_lines_are_joined_into_the_published_text_and_counted() -> None:
    reader = RunningTextReader("x", join="\n", lines=True, line_ends_count=True)
    read = reader.read(raw(["", " = A döner = \n", "", " It is good . \n"]))
    assert list(read.texts) == ["\n = A döner = \n\n It is good . "]
    assert read.counts.words == 8
    assert read.counts.original_tokens == 8 + 4  # four lines
    assert read.counts.characters == len(read.texts[0])
    assert read.counts.bytes == read.counts.characters + 1


def test_rows_that_stand_for_themselves_and_a_file_in_lines() -> None:
    assert list(RunningTextReader("x").read(raw(["a b\nc", "d"])).texts) == ["a b\nc", "d"]
    assert list(RunningTextReader("x", lines=True).read(raw(["a b\n\nc\n", "d"])).texts) == ["a b", "c", "d"]
    assert list(RunningTextReader("x", join="\n\n").read(raw(["a\n", "", "b"])).texts) == ["a\n\n\n\n\nb"]


def test_the_last_bytes_begin_with_a_whole_character() -> None:
    assert list(RunningTextReader("x", join="", last_bytes=4).read(raw(["abc", "döf"])).texts) == ["döf"]
    assert list(RunningTextReader("x", join="", last_bytes=2).read(raw(["abc", "döf"])).texts) == ["f"]
    assert list(RunningTextReader("x", join="", last_bytes=99).read(raw(["abc"])).texts) == ["abc"]
    with pytest.raises(ConfigurationError, match=r"task\.rows\.last_bytes"):
        RunningTextReader("x", last_bytes=3)


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["", ""], "rows.parquet: there is no token to predict: column 'text' is empty"),
        (["a", ""], "rows.parquet, row 2, column 'text': empty text; task.data.on_bad_row=skip"),
        (["a", None], "rows.parquet, row 2, column 'text': null; task.data.on_bad_row=skip"),
        ([], "rows.parquet: zero rows"),
    ],
)
def test_rows_without_text(texts: list[Any], message: str) -> None:
    with pytest.raises(DataError) as caught:
        RunningTextReader("x").read(raw(texts))
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_skipped_rows_and_a_missing_column() -> None:
    read = RunningTextReader("x").read(raw(["a", None, "b"]), "skip")
    assert list(read.texts) == ["a", "b"]
    assert read.stats["skipped"] == 1
    with pytest.raises(DataError, match=r"rows\.parquet: no column 'text' \(task\.rows\.column\); it has sentence"):
        RunningTextReader("x").read(raw(["a"], "sentence"))
