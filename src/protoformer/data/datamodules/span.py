"""Data module for answers that are spans of a context (SQuAD): windows of questions and contexts, as BERT's code cuts them.

A context longer than the model can read is cut into overlapping windows, each of which is a row. The character offsets of the
context's tokens are kept, so that an answer is a piece of the original text.
"""

from collections.abc import Mapping, Sequence
from typing import ClassVar, Protocol

import numpy as np
from jaxtyping import Bool, Int
from numpy import ndarray

from protoformer.data.datamodules.context import DataContext
from protoformer.data.datamodules.span_table import SpanCollate, SpanReferences, SpanTable
from protoformer.data.datamodules.table import TableDataModule, skipped_stats, stat_lines
from protoformer.data.examples.columns import OnBadRow
from protoformer.data.examples.extractive_qa import QuestionExamples
from protoformer.data.sources.source import RawTable, Role
from protoformer.errors import ConfigurationError
from protoformer.text.templates import Windows


class WindowTemplate(Protocol):
    """A template that encodes windows of questions and contexts."""

    pad_id: int

    def encode_windows(
        self,
        questions: Sequence[list[int]],
        contexts: Sequence[list[int]],
        max_len: int,
        stride: int,
        max_question: int,
    ) -> Windows: ...


class SpanDataModule(TableDataModule[SpanTable]):
    """Its reader is an ExtractiveQAReader, its template a WindowTemplate.

    Windows advance by `stride` tokens of context; questions are cut to `max_question` tokens.
    """

    template_method: ClassVar[str] = "encode_windows"
    table_class = SpanTable
    incomplete_data: ClassVar[Mapping[str, str]] = {
        "questions_truncated": "truncated questions",
        "unseen": "answers that no window shows",
        "skipped": "rows left out",
    }

    def __init__(
        self, context: DataContext, *, stride: int = 128, max_question: int = 64, on_bad_row: OnBadRow = "error"
    ) -> None:
        super().__init__(context, on_bad_row=on_bad_row)
        for name, value in (("stride", stride), ("max_question", max_question)):
            if value < 1:
                raise ConfigurationError(f"task.data.{name}={value}: at least 1")
        self.stride, self.max_question = stride, max_question

    def cache_settings(self) -> dict[str, object]:
        return {"stride": self.stride, "max_question": self.max_question}

    def encode(self, raw: RawTable, role: Role) -> SpanTable:
        examples: QuestionExamples = self.reader.read(raw, role, self.on_bad_row)
        questions = self.tokenizer.encode(examples.questions)
        # several questions share a context, which is tokenised once
        distinct = list(dict.fromkeys(examples.contexts))
        distinct_ids, distinct_offsets = self.tokenizer.encode_with_offsets(distinct)
        index = {context: i for i, context in enumerate(distinct)}
        ids = [distinct_ids[index[context]] for context in examples.contexts]
        char_offsets = [distinct_offsets[index[context]] for context in examples.contexts]
        windows = self.template.encode_windows(questions, ids, self.max_len, self.stride, self.max_question)
        max_context_start, max_context_end = max_context_spans(
            windows.example, windows.first_token, windows.context_tokens
        )
        answers = [
            token_span(offsets, starts[0], starts[0] + len(texts[0]))
            if texts and starts and starts[0] is not None
            else None
            for offsets, texts, starts in zip(char_offsets, examples.answers, examples.starts, strict=True)
        ]
        start_position, end_position, shown = answer_positions(windows, answers)
        has_answer = np.asarray(
            [bool(texts and starts) for texts, starts in zip(examples.answers, examples.starts, strict=True)]
        )
        flat_offsets = np.asarray([pair for pairs in char_offsets for pair in pairs], dtype=np.int32).reshape(-1, 2)
        return SpanTable(
            ids=windows.ids,
            segment_ids=windows.segment_ids,
            offsets=windows.offsets,
            null_position=windows.null_position,
            example=windows.example,
            context_start=windows.context_start,
            first_token=windows.first_token,
            context_tokens=windows.context_tokens,
            max_context_start=max_context_start,
            max_context_end=max_context_end,
            start_position=start_position,
            end_position=end_position,
            row=examples.row,
            context_offsets=np.concatenate([[0], np.cumsum([len(context) for context in ids])]),
            char_start=flat_offsets[:, 0],
            char_end=flat_offsets[:, 1],
            stats={
                "examples": len(ids),
                "questions_truncated": windows.truncated,
                "unseen": int((has_answer & ~shown).sum()),
                **skipped_stats(examples.skipped, examples.reasons),
            },
        )

    def log_lines(self, table: SpanTable) -> list[str]:
        examples, skipped = table.stats["examples"], table.stats["skipped"]
        return stat_lines(
            table,
            questions_truncated=(examples, f"questions truncated to {self.max_question} tokens"),
            unseen=(examples, "answers that no window shows whole"),
            skipped=(examples + skipped, "examples left out as unusable"),
        )

    def collate(self, table: SpanTable) -> SpanCollate:
        return SpanCollate(table, self.template.pad_id)

    def references(self, role: Role, split: str) -> SpanReferences:
        return SpanReferences(self.tables[role][split], self._examples(role, split))

    def text_columns(self, role: Role, split: str) -> Mapping[str, Sequence[str]]:
        examples = self._examples(role, split)
        return {self.reader.question: examples.questions, self.reader.context: examples.contexts}

    def passages(self, role: Role, split: str) -> Sequence[str]:
        return self._examples(role, split).contexts

    def texts(self, role: Role, split: str) -> list[str]:
        examples = self._examples(role, split)
        return [" | ".join(pair) for pair in zip(examples.questions, examples.contexts, strict=True)]

    def _examples(self, role: Role, split: str) -> QuestionExamples:
        return self.reader.read(self.raw(role, split), role, self.on_bad_row)


def token_span(offsets: Sequence[tuple[int, int]], start: int, end: int) -> tuple[int, int] | None:
    """First and last token that overlap characters `start` to `end`; None where the tokenizer dropped them all."""
    overlapping = [
        index for index, (token_start, token_end) in enumerate(offsets) if token_end > start and token_start < end
    ]
    return (overlapping[0], overlapping[-1]) if overlapping else None


def max_context_spans(
    example: Int[ndarray, "windows"], first_token: Int[ndarray, "windows"], context_tokens: Int[ndarray, "windows"]
) -> tuple[Int[ndarray, "windows"], Int[ndarray, "windows"]]:
    """For each window the context tokens that have more context in it than in any other: from, and one past the last.

    BERT's "max context": a token's score in a window is the lesser of its left and right context there, plus a hundredth of the
    window's length.
    """
    start, end = np.zeros_like(first_token), np.zeros_like(first_token)
    for windows in np.split(np.arange(len(example)), np.flatnonzero(np.diff(example)) + 1):
        last = windows[-1]
        token = np.arange(first_token[last] + context_tokens[last])  # of the whole context
        left = token[None] - first_token[windows, None]  # (windows, tokens)
        right = (first_token + context_tokens)[windows, None] - 1 - token[None]
        score = np.minimum(left, right) + 0.01 * context_tokens[windows, None]
        score[(left < 0) | (right < 0)] = -np.inf  # the window does not show the token
        best = score.argmax(0) if len(token) else token
        for index, window in enumerate(windows):
            tokens = np.flatnonzero(best == index)
            if len(tokens):
                start[window], end[window] = tokens[0], tokens[-1] + 1
    return start, end


def answer_positions(
    windows: Windows, answers: Sequence[tuple[int, int] | None]
) -> tuple[Int[ndarray, "windows"], Int[ndarray, "windows"], Bool[ndarray, "examples"]]:
    """Start and end of the answer in each window (its null position where it does not show the whole answer), and whose
    answers some window shows. `answers` are first and last token in the context."""
    start, end = windows.null_position.copy(), windows.null_position.copy()
    shown = np.zeros(len(answers), dtype=bool)
    for window, example in enumerate(windows.example):
        answer = answers[example]
        first, count = int(windows.first_token[window]), int(windows.context_tokens[window])
        if answer is None or answer[0] < first or answer[1] >= first + count:
            continue
        shown[example] = True
        shift = int(windows.context_start[window]) - first
        start[window], end[window] = answer[0] + shift, answer[1] + shift
    return start, end, shown
