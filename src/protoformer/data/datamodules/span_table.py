"""Windows of questions and contexts as a table, their batches, and the way back from positions to text."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Int
from numpy import ndarray
from torch import Tensor

from protoformer.batches import SpanBatch
from protoformer.data.batching.padding import pad_rows
from protoformer.data.batching.samplers import decode_dummies
from protoformer.data.cache import Table
from protoformer.data.examples.extractive_qa import QuestionExamples


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


class SpanReferences:
    """A split's questions and gold answers (None: hidden), and the text between two positions of a window."""

    def __init__(self, table: SpanTable, examples: QuestionExamples) -> None:
        self.table, self.ids, self.contexts = table, examples.ids, examples.contexts
        self.gold = None if examples.hidden else examples.answers
        # position in the window + shift = index into the flat character offsets
        self.shift = table.first_token + table.context_offsets[table.example] - table.context_start

    def question(self, window: int) -> int:
        """The index of a window's question."""
        return int(self.table.example[window])

    def text(self, window: int, start: int, end: int) -> str:
        """The piece of the original context from position `start` to `end` of the window, both included."""
        first, last = self.shift[window] + start, self.shift[window] + end
        char_start, char_end = int(self.table.char_start[first]), int(self.table.char_end[last])
        return self.contexts[self.table.example[window]][char_start:char_end]


class SpanCollate:
    """Window indices -> one padded batch."""

    def __init__(self, table: SpanTable, pad_id: int) -> None:
        self.table, self.pad_id = table, pad_id

    def __call__(self, indices: list[int]) -> SpanBatch:
        windows, is_real = decode_dummies(indices)
        table = self.table
        text = pad_rows(table, windows, self.pad_id)
        position = np.arange(text["ids"].shape[1])[None]

        def between(start: ndarray, end: ndarray) -> Bool[Tensor, "batch seq"]:
            return torch.from_numpy((position >= start[:, None]) & (position < end[:, None]))

        def as_tensor(column: ndarray) -> Int[Tensor, "batch"]:
            return torch.from_numpy(np.asarray(column[windows], dtype=np.int64))

        context_start = np.asarray(table.context_start[windows], dtype=np.int64)
        shift = context_start - table.first_token[windows]  # from tokens of the context to positions in the window
        return SpanBatch(
            **text,
            pooler_position=as_tensor(table.null_position),
            example_ids=torch.from_numpy(np.where(is_real, np.asarray(windows), -1)),
            context_mask=between(context_start, context_start + table.context_tokens[windows]),
            max_context_mask=between(table.max_context_start[windows] + shift, table.max_context_end[windows] + shift),
            null_position=as_tensor(table.null_position),
            start_position=as_tensor(table.start_position),
            end_position=as_tensor(table.end_position),
        )
