"""Windows of questions and contexts: answers are found again as text, no token is lost, every token has one owner."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from protoformer.data.batching.samplers import BatchConfig
from protoformer.data.datamodules.context import DataContext
from protoformer.data.datamodules.span import SpanDataModule, max_context_spans, token_span
from protoformer.data.examples.extractive_qa import ExtractiveQAReader
from protoformer.data.sources.source import DatasetRef, RawStream, RawTable
from protoformer.errors import ConfigurationError, DataError
from protoformer.text.templates import BertTemplate
from protoformer.text.tokenizers import whole_word_tokenizer

CONTEXT = "the red wine of the old town was sold , and the new wine was not sold at all in the town ."
ROWS = [
    ("q1", "what was sold ?", "red wine", 4),
    ("q2", "where was it not sold ?", "the town", CONTEXT.rindex("the town")),
]


def raw(rows: list[tuple[str, str, str, int]]) -> RawTable:
    answers = [{"text": [text], "answer_start": [at]} for _, _, text, at in rows]
    table = {"id": [r[0] for r in rows], "question": [r[1] for r in rows], "context": [CONTEXT] * len(rows)}
    return RawTable(pa.table({**table, "answers": answers}), "squad/train.jsonl", "digest")


class Source:
    def __init__(self, table: RawTable) -> None:
        self.table = table

    def load(self, ref: DatasetRef, split: str) -> RawTable:
        return self.table

    def stream(self, ref: DatasetRef, split: str, columns: Any = None) -> RawStream:
        raise NotImplementedError

    def corpus(self) -> None:
        return None


def module(cache: Path, table: RawTable, max_len: int = 20, **more: Any) -> SpanDataModule:
    words = whole_word_tokenizer([CONTEXT, *(question for _, question, _, _ in ROWS)], "here")
    made = SpanDataModule(
        DataContext(
            reader=ExtractiveQAReader("squad"),
            splits={"train": "train"},
            source=Source(table),
            tokenizer=words,
            template=BertTemplate(words),
            max_len=max_len,
            batch_config=BatchConfig(4),
            cache=cache,
        ),
        **{"stride": 5, **more},
    )
    made.setup()
    return made


def test_answers_are_found_again_and_every_token_has_one_owner(tmp_path: Path) -> None:
    data = module(tmp_path, raw(ROWS))
    table = data.tables["train"][""]
    assert len(table) > 4  # several windows a question
    batch = data.collate(table)(list(range(len(table))))
    results: dict[int, set[str]] = {0: set(), 1: set()}
    for number, example in enumerate(table.example):
        start, end = int(batch["start_position"][number]), int(batch["end_position"][number])
        if start == 0:
            assert end == 0  # not (wholly) in this window
            continue
        assert batch["context_mask"][number, start]
        assert batch["context_mask"][number, end]
        shift = int(table.context_offsets[example]) + int(table.first_token[number]) - int(table.context_start[number])
        results[int(example)].add(CONTEXT[table.char_start[start + shift] : table.char_end[end + shift]])
    assert results == {0: {"red wine"}, 1: {"the town"}}
    for example in (0, 1):
        mine = [
            range(table.max_context_start[w], table.max_context_end[w])
            for w in np.flatnonzero(table.example == example)
        ]
        tokens = sorted(token for part in mine for token in part)
        assert tokens == list(range(table.context_offsets[example + 1] - table.context_offsets[example]))
    assert not (batch["max_context_mask"] & ~batch["context_mask"]).any()
    assert table.stats["unseen"] == 0


def test_the_owner_is_the_window_with_most_context() -> None:
    max_context_start, max_context_end = max_context_spans(np.array([0, 0]), np.array([0, 4]), np.array([8, 8]))
    assert (max_context_start.tolist(), max_context_end.tolist()) == ([0, 6], [6, 12])


def test_a_span_of_characters_is_a_span_of_tokens() -> None:
    offsets = [(0, 3), (4, 7), (7, 8)]
    assert token_span(offsets, 4, 8) == (1, 2)
    assert token_span(offsets, 5, 6) == (1, 1)
    assert token_span(offsets, 3, 4) is None


def test_what_does_not_fit_is_told(tmp_path: Path) -> None:
    moved = [(*ROWS[0][:3], 5), ROWS[1]]
    with pytest.raises(DataError, match=r"row 1, column 'answers': an answer that does not stand in the context"):
        module(tmp_path, raw(moved))
    examples = ExtractiveQAReader("squad").read(raw(moved), "train", "skip")
    assert (examples.ids, examples.skipped) == (["q2"], 1)
    with pytest.raises(ConfigurationError, match="tokens would be skipped"):
        module(tmp_path, raw(ROWS), max_len=10)


def test_every_answer_that_is_not_shown_is_counted(tmp_path: Path) -> None:
    """Too long for a window, or of characters that the tokenizer drops."""
    long = ("q3", "what was sold ?", CONTEXT[4:60], 4)
    data = module(tmp_path, raw([*ROWS, long]))
    assert data.tables["train"][""].stats["unseen"] == 1
    assert data.log_lines(data.tables["train"][""]) == ["1 of 3 answers that no window shows whole"]
    space = ("q4", "what was sold ?", " ", 3)
    assert module(tmp_path, raw([*ROWS, space])).tables["train"][""].stats["unseen"] == 1


def test_rows_left_out_are_told_of_all_rows(tmp_path: Path) -> None:
    moved = [(*ROWS[0][:3], 5), ROWS[1]]
    data = module(tmp_path, raw(moved), on_bad_row="skip")
    assert data.log_lines(data.tables["train"][""]) == [
        "1 of 2 examples left out as unusable: 1 an answer that does not stand in the context at its answer_start (answers)"
    ]


@pytest.mark.parametrize("more", [{"stride": 0}, {"stride": -3}, {"max_question": 0}])
def test_windows_that_cannot_be_are_refused(tmp_path: Path, more: dict[str, int]) -> None:
    (name,) = more
    with pytest.raises(ConfigurationError, match=f"task.data.{name}=-?[0-9]: at least 1"):
        module(tmp_path, raw(ROWS), **more)
