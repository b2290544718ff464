"""Pairs as they are written: once for an encoder, in both orders for a decoder where the texts may change places."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from protoformer.data.batching.samplers import BatchConfig
from protoformer.data.datamodules import table
from protoformer.data.datamodules.classification import ClassificationCollate, ClassificationDataModule
from protoformer.data.datamodules.context import DataContext
from protoformer.data.examples.labelled import LabelledTextReader
from protoformer.data.sources.local import LocalSource
from protoformer.data.sources.source import RawTable
from protoformer.errors import ConfigurationError
from protoformer.text.templates import BertTemplate, GptTemplate
from protoformer.text.tokenizers import whole_word_tokenizer

WORDS = whole_word_tokenizer(["x y z ? a b c d e f"], "the test's words")
RAW = RawTable(pa.table({"a": ["x y", "z"], "b": ["z ? a", "a b c d e f"], "label": [0, 1]}), "file", "digest")


def module(template: Any, *, max_len: int = 32, symmetric: bool = True, pair: bool = True) -> ClassificationDataModule:
    return ClassificationDataModule(
        DataContext(
            reader=LabelledTextReader("set", "a", "b" if pair else None, labels=["no", "yes"], symmetric=symmetric),
            splits={"train": "train", "validation": None, "test": None},
            source=None,  # type: ignore[arg-type]
            tokenizer=WORDS,
            template=template(WORDS),
            max_len=max_len,
            batch_config=BatchConfig(2),
            cache=Path(),
        )
    )


def words(ids: Any) -> str:
    special = {WORDS.vocab_size: "<s>", WORDS.vocab_size + 1: "<d>", WORDS.vocab_size + 2: "<e>"}
    return " ".join(special.get(int(i)) or str(WORDS.hf_tokenizer.id_to_token(int(i))) for i in ids)


def test_a_decoder_reads_both_orders() -> None:
    table = module(GptTemplate).encode(RAW, "train")
    texts = [words(table.ids[begin:end]) for begin, end in zip(table.offsets, table.offsets[1:], strict=False)]
    assert texts == [
        "<s> x y <d> z ? a <e>",
        "<s> z ? a <d> x y <e>",
        "<s> z <d> a b c d e f <e>",
        "<s> a b c d e f <d> z <e>",
    ]
    assert (len(table), table.sequences, table.lengths.tolist()) == (2, 2, [16, 20])
    batch = ClassificationCollate(table, 0)([1, 0, -1 - 0])
    assert batch["ids"].shape == (3, 2, 10)
    assert batch["padding_mask"].sum(-1).tolist() == [[10, 10], [8, 8], [8, 8]]
    assert batch["pooler_position"].tolist() == [[9, 9], [7, 7], [7, 7]]
    assert (batch["example_ids"].tolist(), batch["labels"].tolist()) == ([1, 0, -1], [1, 0, 0])
    assert words(batch["ids"][0, 1]) == texts[3]


@pytest.mark.parametrize(
    ("template", "settings"),
    [
        (BertTemplate, {}),
        (GptTemplate, {"symmetric": False}),
        (GptTemplate, {"symmetric": False, "pair": False}),
        (lambda tokenizer: GptTemplate(tokenizer, both_orders=False), {}),
    ],
)
def test_everything_else_is_read_once(template: Any, settings: dict[str, Any]) -> None:
    data = module(template, **settings)
    table = data.encode(RAW, "train")
    assert (len(table), table.sequences) == (2, 1)
    batch = ClassificationCollate(table, 0)([0, 1])
    assert batch["ids"].shape[:2] == (2, 1)
    assert batch["pooler_position"].shape == (2, 1)


def test_an_encoder_reads_a_symmetric_pair_as_any_other() -> None:
    actual, other = (module(BertTemplate, symmetric=symmetric).encode(RAW, "train") for symmetric in (True, False))
    for name in type(actual).array_names():
        np.testing.assert_array_equal(getattr(actual, name), getattr(other, name))


def test_a_pair_that_loses_tokens_loses_them_in_both_orders_and_is_counted_once() -> None:
    table = module(GptTemplate, max_len=8).encode(RAW, "train")
    assert table.stats["truncated"] == 1
    assert np.diff(table.offsets).tolist() == [8, 8, 8, 8]
    assert words(table.ids[-8:]) == "<s> a b c d <d> z <e>"


def test_one_text_cannot_change_places() -> None:
    with pytest.raises(ConfigurationError, match="symmetric=true needs two texts, and there is one"):
        module(GptTemplate, pair=False)


def test_rows_left_out_are_told_of_all_rows() -> None:
    data = module(BertTemplate)
    data.on_bad_row = "skip"
    raw = RawTable(pa.table({"a": ["x", "", "y"], "b": ["z", "z", "z"], "label": [0, 1, 1]}), "file", "digest")
    assert data.log_lines(data.encode(raw, "train")) == ["1 of 3 examples left out as unusable: 1 empty text (a)"]


@pytest.mark.parametrize(
    ("train", "validation", "said"),
    [
        ("train", "train[:3]", "train.csv[:3]: 3 of its rows are trained on, too (validation)"),
        ("train[:6]", "train[4:]", "train.csv[4:]: 2 of its rows are trained on, too (validation)"),
        ("train[all but fold 0/5, seed 0]", "train[:5]", " of its rows are trained on, too (validation)"),
        ("train[:10]", "train[:100%]", "train.csv[:100%]: its rows are those that are trained on (validation)"),
        ("train[:6]", "train[6:]", None),
        ("train[all but fold 0/5, seed 0]", "train[fold 0/5, seed 0]", None),
        ("train[:2]", "dev[:2]", None),
    ],
)
def test_rows_that_are_trained_on_and_evaluated_are_told(
    train: str, validation: str, said: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("train", "dev"):
        rows = [f"x {name} {i},{'no' if i % 2 else 'yes'}\n" for i in range(10)]
        (tmp_path / f"{name}.csv").write_text("a,label\n" + "".join(rows))
    lines: list[str] = []
    monkeypatch.setattr(table.log, "warning", lambda text, *values: lines.append(text % values))
    ClassificationDataModule(
        DataContext(
            reader=LabelledTextReader(".", "a", labels=["no", "yes"]),
            splits={"train": train, "validation": validation, "test": None},
            source=LocalSource(str(tmp_path)),
            tokenizer=WORDS,
            template=BertTemplate(WORDS),
            max_len=32,
            batch_config=BatchConfig(2),
            cache=tmp_path / "cache",
        )
    ).setup()
    assert len(lines) == (said is not None)
    assert said is None or said in lines[0]
