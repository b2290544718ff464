"""Choices as they are written: after their text, whose last part keeps its tokens."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from protoformer.data.batching.samplers import BatchConfig
from protoformer.data.datamodules.context import DataContext
from protoformer.data.datamodules.multiple_choice import MultipleChoiceCollate, MultipleChoiceDataModule
from protoformer.data.examples.multiple_choice import MultipleChoiceReader
from protoformer.data.sources.source import DatasetRef, RawTable
from protoformer.text.templates import BertTemplate, GptTemplate
from protoformer.text.tokenizers import Tokenizer, byte_level_bpe, whole_word_tokenizer

WORDS = whole_word_tokenizer(["x y z ? a b c d e f g"], "the test's words")
ROWS = MultipleChoiceReader(
    "set", context=["article", "question"], options="options", choices=["A", "B"], label="answer"
)
RAW = RawTable(
    pa.table(
        {
            "article": ["a b c d e f", "a"],
            "question": ["x y ?", "x ?"],
            "options": [["g", "z z"], ["y", "z"]],
            "answer": ["B", "A"],
        }
    ),
    "file",
    "digest",
)


class OneTable:
    """A source that has one table."""

    def __init__(self, raw: RawTable) -> None:
        self.raw = raw

    def load(self, ref: DatasetRef, split: str) -> RawTable:
        return self.raw


def module(template: Any = GptTemplate, max_len: int = 32, rows: Any = ROWS, tokenizer: Tokenizer = WORDS) -> Any:
    return MultipleChoiceDataModule(
        DataContext(
            reader=rows,
            splits={"train": "train", "validation": None, "test": None},
            source=OneTable(RAW),  # type: ignore[arg-type]
            tokenizer=tokenizer,
            template=template(tokenizer),
            max_len=max_len,
            batch_config=BatchConfig(2),
            cache=Path(),
        )
    )


def written(data: Any, raw: RawTable = RAW) -> list[str]:
    table = data.encode(raw, "train")
    special = {WORDS.vocab_size: "<s>", WORDS.vocab_size + 1: "<d>", WORDS.vocab_size + 2: "<e>"}
    return [
        " ".join(special.get(int(i)) or str(WORDS.hf_tokenizer.id_to_token(int(i))) for i in table.ids[begin:end])
        for begin, end in zip(table.offsets, table.offsets[1:], strict=False)
    ]


def test_parts_are_joined_and_each_choice_follows() -> None:
    assert written(module()) == [
        "<s> a b c d e f x y ? <d> g <e>",
        "<s> a b c d e f x y ? <d> z z <e>",
        "<s> a x ? <d> y <e>",
        "<s> a x ? <d> z <e>",
    ]
    assert written(module(BertTemplate))[3] == "[CLS] a x ? [SEP] z [SEP]"
    table = module().encode(RAW, "train")
    assert (table.sequences, table.labels.tolist(), table.stats["truncated"]) == (2, [1, 0], 0)
    batch = MultipleChoiceCollate(table, 0)([1])
    assert batch["ids"].shape == (1, 2, 7)
    assert module().texts("train", "") == ["a b c d e f x y ? | g | z z", "a x ? | y | z"]


def test_the_article_is_cut_and_the_question_is_not() -> None:
    assert written(module(max_len=10))[:2] == ["<s> a b c x y ? <d> g <e>", "<s> a b x y ? <d> z z <e>"]
    assert module(max_len=10).encode(RAW, "train").stats["truncated"] == 2
    assert written(module(max_len=6))[:2] == ["<s> x y <d> g <e>", "<s> x y <d> z <e>"]
    assert module(max_len=12).log_lines(module(max_len=12).encode(RAW, "train")) == [
        "2 of 4 pairs truncated to 12 tokens"
    ]


def test_one_part_is_written_as_it_always_was() -> None:
    columns = {
        "sent": ["a b c", "a"],
        "start": ["x", "y"],
        "one": ["y", "y"],
        "two": ["z z z z z z", "z"],
        "label": [0, 1],
    }
    rows = MultipleChoiceReader("set", context="sent", stem="start", choices=["one", "two"])
    raw = RawTable(pa.table(columns), "file", "digest")
    assert written(module(max_len=8, rows=rows), raw) == [
        "<s> a b c <d> x y <e>",
        "<s> a b c <d> x z <e>",
        "<s> a <d> y y <e>",
        "<s> a <d> y z <e>",
    ]


def test_a_vocabulary_of_bytes_keeps_the_space_between_parts() -> None:
    """The tokens of the parts are those of the joined text."""
    letters = {letter: number for number, letter in enumerate("abcdefgxyz?Ġ")}
    tokenizer = Tokenizer(byte_level_bpe({**letters, "Ġx": 12}, [("Ġ", "x")]), "bytes")
    data = module(tokenizer=tokenizer)
    table = data.encode(RAW, "train")
    expected = tokenizer.encode(["a b c d e f x y ?"])[0]
    assert table.ids[1 : 1 + len(expected)].tolist() == expected
    assert 12 in expected


@pytest.mark.parametrize("count", [2, 3])
def test_as_many_choices_as_a_row_lists(count: int) -> None:
    names = ["A", "B", "C"][:count]
    rows = MultipleChoiceReader("set", context="article", options="options", choices=names, label="answer")
    raw = RawTable(
        pa.table({"article": ["a"], "options": [["x", "y", "z"][:count]], "answer": [names[-1]]}), "file", "digest"
    )
    table = module(rows=rows).encode(raw, "train")
    assert (table.sequences, table.labels.tolist()) == (count, [count - 1])


def test_rows_left_out_are_told_of_all_rows() -> None:
    data = module(BertTemplate)
    data.on_bad_row = "skip"
    rows = {**RAW.table.to_pydict(), "question": ["x y ?", ""]}
    assert data.log_lines(data.encode(RawTable(pa.table(rows), "file", "digest"), "train")) == [
        "1 of 2 examples left out as unusable: 1 empty text (question)"
    ]


def test_a_choice_that_an_example_lacks_has_no_text_and_no_pooler_position() -> None:
    rows = MultipleChoiceReader("set", context="question", options="options", choices=["A", "B", "C"], label="answer")
    raw = RawTable(
        pa.table({"question": ["x ?", "y ?"], "options": [["a", "b"], ["a", "b", "c"]], "answer": ["B", "C"]}),
        "file",
        "digest",
    )
    data = module(BertTemplate, rows=rows)
    table = data.encode(raw, "train")
    assert (table.pooler_position >= 0).tolist() == [True, True, False, True, True, True]
    assert (table.labels.tolist(), table.sequences) == ([1, 2], 3)
    assert written(data, raw)[2] == "[CLS] [SEP] [SEP]"
    assert data.log_lines(table) == ["1 of 2 examples have fewer than 3 choices"]
    parts = MultipleChoiceReader("set", context=["question", "question"], options="options", choices=["A", "B", "C"])
    assert written(
        module(BertTemplate, rows=parts), RawTable(raw.table.rename_columns(["question", "options", "label"]), "f", "")
    )[2] == ("[CLS] [SEP] [SEP]")
