"""Batches for answers that are a span of a context: windows of questions and contexts, as BERT's code cuts them.

A context longer than the model can read is cut into overlapping windows; each is a row of its own. Tokens are remembered
by where they stand in the context, in characters, so that an answer is a piece of the original text.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from jaxtyping import Bool, Int
from numpy import ndarray

from protoformer.batches import SpanBatch
from protoformer.data.batching.padding import padded
from protoformer.data.batching.samplers import fillers
from protoformer.data.cache import Table
from protoformer.data.datamodules.table import TableDataModule
from protoformer.data.examples.questions import QuestionExamples
from protoformer.data.sources.source import RawTable, Role
from protoformer.errors import ConfigurationError
from protoformer.text.templates import Windows


class WindowTemplate(Protocol):
    """A template that writes windows of questions and contexts."""

    pad_id: int

    def encode_windows(
        self,
        questions: Sequence[list[int]],
        contexts: Sequence[list[int]],
        max_len: int,
        stride: int,
        max_question: int,
    ) -> Windows: ...


@dataclass(frozen=True)
class SpanTable(Table):
    """Windows of questions and contexts.

    Window i shows tokens `first_token[i]` to `first_token[i] + context_tokens[i]` of its context, from position
    `context_start[i]` on. Those from `max_context_start[i]` to `max_context_end[i]` have more context here than in any other
    window. `char_start` and `char_end` are the character offsets of every context token, flat; example e's begin at
    `context_offsets[e]`. Answers are positions in the window, or the null position where the window does not show the answer.
    """

    null_position: Int[ndarray, "windows"]
    example: Int[ndarray, "windows"]
    context_start: Int[ndarray, "windows"]
    first_token: Int[ndarray, "windows"]
    context_tokens: Int[ndarray, "windows"]
    max_context_start: Int[ndarray, "windows"]
    max_context_end: Int[ndarray, "windows"]
    start_position: Int[ndarray, "windows"]
    end_position: Int[ndarray, "windows"]
    row: Int[ndarray, "examples"]
    context_offsets: Int[ndarray, "examples_1"]
    char_start: Int[ndarray, "context_tokens"]
    char_end: Int[ndarray, "context_tokens"]


class SpanDataModule(TableDataModule[SpanTable]):
    """`rows` is an ExtractiveQAReader, `template` a WindowTemplate; windows advance by `stride` tokens."""

    template_method: ClassVar[str] = "encode_windows"
    table = SpanTable
    incomplete_data: ClassVar[Mapping[str, str]] = {
        "questions_truncated": "truncated questions",
        "unseen": "answers that no window shows",
        "skipped": "rows left out",
    }

    def __init__(self, *, stride: int = 128, max_question: int = 64, **shared: Any) -> None:
        super().__init__(**shared)
        for name, value in (("stride", stride), ("max_question", max_question)):
            if value < 1:
                raise ConfigurationError(f"task.data.{name}={value}: at least 1")
        self.stride, self.max_question = stride, max_question

    def settings(self) -> dict[str, Any]:
        return {"stride": self.stride, "max_question": self.max_question}

    def write(self, raw: RawTable, role: Role) -> SpanTable:
        examples: QuestionExamples = self.rows.read(raw, role, self.on_bad_row)
        questions = self.tokenizer.encode(examples.questions)
        distinct = list(dict.fromkeys(examples.contexts))  # several questions share a context
        ids, places = self.tokenizer.encode_with_offsets(distinct)
        number = {context: i for i, context in enumerate(distinct)}
        of = [number[context] for context in examples.contexts]
        windows = self.template.encode_windows(
            questions, [ids[i] for i in of], self.max_len, self.stride, self.max_question
        )
        sizes = [len(ids[i]) for i in of]
        flat = np.asarray([place for i in of for place in places[i]], dtype=np.int32).reshape(-1, 2)
        max_context_start, max_context_end = owned(windows.example, windows.first_token, windows.context_tokens)
        spans = [
            token_span(places[i], starts[0], starts[0] + len(texts[0])) if texts and starts else None
            for i, texts, starts in zip(of, examples.answers, examples.starts, strict=True)
        ]
        start, end, seen = positions(windows, spans)
        answered = np.asarray(
            [bool(texts and starts) for texts, starts in zip(examples.answers, examples.starts, strict=True)]
        )
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
            start_position=start,
            end_position=end,
            row=examples.row,
            context_offsets=np.concatenate([[0], np.cumsum(sizes)]),
            char_start=flat[:, 0],
            char_end=flat[:, 1],
            stats={
                "examples": len(of),
                "questions_truncated": windows.truncated,
                "unseen": int((answered & ~seen).sum()),
                "skipped": examples.skipped,
            },
        )

    def log_lines(self, table: SpanTable) -> list[str]:
        kept, skipped = table.stats["examples"], table.stats["skipped"]
        words = {
            "questions_truncated": (kept, f"questions truncated to {self.max_question} tokens"),
            "unseen": (kept, "answers that no window shows whole"),
            "skipped": (kept + skipped, "examples left out as unusable"),
        }
        return [f"{table.stats[fact]} of {of} {text}" for fact, (of, text) in words.items() if table.stats[fact]]

    def collate(self, table: SpanTable) -> "Collate":
        return Collate(table, self.template.pad_id)

    def references(self, role: Role, split: str) -> "SpanReferences":
        examples: QuestionExamples = self.rows.read(self.raw(role, split), role, self.on_bad_row)
        return SpanReferences(self.tables[role][split], examples)

    def texts(self, role: Role, split: str) -> list[str]:
        examples: QuestionExamples = self.rows.read(self.raw(role, split), role, self.on_bad_row)
        return [" | ".join(pair) for pair in zip(examples.questions, examples.contexts, strict=True)]


class SpanReferences:
    """A split's questions and gold answers (None: hidden), and the way from places in a window to the context's text."""

    def __init__(self, table: SpanTable, examples: QuestionExamples) -> None:
        self.table, self.ids, self.contexts = table, examples.ids, examples.contexts
        self.gold = None if examples.hidden else examples.answers
        self.shift = table.first_token + table.context_offsets[table.example] - table.context_start

    def question(self, window: int) -> int:
        return int(self.table.example[window])

    def text(self, window: int, start: int, end: int) -> str:
        """The piece of the original context from position `start` to `end` of the window, both included."""
        first, last = self.shift[window] + start, self.shift[window] + end
        begin, stop = int(self.table.char_start[first]), int(self.table.char_end[last])
        return self.contexts[self.table.example[window]][begin:stop]


def token_span(places: Sequence[tuple[int, int]], start: int, end: int) -> tuple[int, int] | None:
    """The tokens that hold characters `start` to `end`; None where the tokenizer has dropped them all."""
    inside = [number for number, (begins, ends) in enumerate(places) if ends > start and begins < end]
    return (inside[0], inside[-1]) if inside else None


def owned(
    example: Int[ndarray, "windows"], first: Int[ndarray, "windows"], tokens: Int[ndarray, "windows"]
) -> tuple[Int[ndarray, "windows"], Int[ndarray, "windows"]]:
    """For each window, which of its context's tokens have more context in it than in the others (BERT's "max context").

    A token's worth in a window is the lesser of its left and right context there, plus a hundredth of the window's length.
    """
    max_context_start, max_context_end = np.zeros_like(first), np.zeros_like(first)
    for windows in np.split(np.arange(len(example)), np.flatnonzero(np.diff(example)) + 1):
        last = windows[-1]
        place = np.arange(first[last] + tokens[last])
        left = place[None] - first[windows, None]
        right = (first + tokens)[windows, None] - 1 - place[None]
        worth = np.minimum(left, right) + 0.01 * tokens[windows, None]
        worth[(left < 0) | (right < 0)] = -np.inf
        best = worth.argmax(0) if len(place) else place
        for number, window in enumerate(windows):
            mine = np.flatnonzero(best == number)
            if len(mine):
                max_context_start[window], max_context_end[window] = mine[0], mine[-1] + 1
    return max_context_start, max_context_end


def positions(
    windows: Windows, spans: Sequence[tuple[int, int] | None]
) -> tuple[Int[ndarray, "windows"], Int[ndarray, "windows"], Bool[ndarray, "examples"]]:
    """Where each window shows its question's answer; its null position twice where it does not (whole). And whose answer some
    window shows."""
    start, end = windows.null_position.copy(), windows.null_position.copy()
    seen = np.zeros(len(spans), dtype=bool)
    for number, example in enumerate(windows.example):
        span = spans[example]
        first, tokens = int(windows.first_token[number]), int(windows.context_tokens[number])
        if span is None or span[0] < first or span[1] >= first + tokens:
            continue
        seen[example] = True
        shift = int(windows.context_start[number]) - first
        start[number], end[number] = span[0] + shift, span[1] + shift
    return start, end, seen


class Collate:
    """Window numbers -> one padded batch."""

    def __init__(self, table: SpanTable, pad_id: int) -> None:
        self.table, self.pad_id = table, pad_id

    def __call__(self, indices: list[int]) -> SpanBatch:
        chosen, real = fillers(indices)
        table = self.table
        rectangles = padded(table, chosen, self.pad_id)
        place = np.arange(rectangles["ids"].shape[1])[None]

        def within(begin: ndarray, end: ndarray) -> torch.Tensor:
            return torch.from_numpy((place >= begin[:, None]) & (place < end[:, None]))

        start = np.asarray(table.context_start[chosen], dtype=np.int64)
        shift = start - table.first_token[chosen]
        return SpanBatch(
            **rectangles,
            pooler_position=torch.from_numpy(np.asarray(table.null_position[chosen], dtype=np.int64)),
            example_ids=torch.from_numpy(np.where(real, np.asarray(chosen), -1)),
            context_mask=within(start, start + table.context_tokens[chosen]),
            max_context_mask=within(table.max_context_start[chosen] + shift, table.max_context_end[chosen] + shift),
            null_position=torch.from_numpy(np.asarray(table.null_position[chosen], dtype=np.int64)),
            start_position=torch.from_numpy(np.asarray(table.start_position[chosen], dtype=np.int64)),
            end_position=torch.from_numpy(np.asarray(table.end_position[chosen], dtype=np.int64)),
        )
