"""Formats: how one family writes an example down as ids.

A format is named by the model's yaml. Each of its methods serves one shape of example and gives a `Written`; a model whose
format lacks a method cannot run the tasks that need it. Besides ids a format names the positions that heads read:
`pooler_position`, the vector that stands for the whole, and `null_position`, the place of "no answer".
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Int, UInt8
from numpy import ndarray

from protoformer.errors import ConfigurationError
from protoformer.text.tokenizers import END_OF_TEXT, Tokenizer


@dataclass(frozen=True)
class Written:
    """Examples as flat arrays: example i holds `offsets[i]` to `offsets[i + 1]`."""

    ids: Int[ndarray, "tokens"]
    segment_ids: UInt8[ndarray, "tokens"]
    offsets: Int[ndarray, "examples_1"]
    pooler_position: Int[ndarray, "examples"]
    truncated: int


@dataclass(frozen=True)
class Windows:
    """Question-context pairs cut into windows. Window i holds `offsets[i]` to `offsets[i + 1]` of `ids`.

    Its context tokens begin at `context_start[i]` in the window and are `context_tokens[i]` of the context's own tokens, from
    number `first_token[i]` on. `example[i]` is the number of the pair it is cut from.
    """

    ids: Int[ndarray, "tokens"]
    segment_ids: UInt8[ndarray, "tokens"]
    offsets: Int[ndarray, "windows_1"]
    null_position: Int[ndarray, "windows"]
    example: Int[ndarray, "windows"]
    context_start: Int[ndarray, "windows"]
    first_token: Int[ndarray, "windows"]
    context_tokens: Int[ndarray, "windows"]
    truncated: int  # questions that lost tokens


def truncated_lengths(a: int, b: int, room: int) -> tuple[int, int]:
    """How much of a pair is kept: tokens leave the longer side's end, one by one, b first where both are as long.

    BERT's "longest first" (its code, `_truncate_seq_pair`), in closed form.
    """
    excess = a + b - room
    if excess <= 0:
        return a, b
    level = min(excess, abs(a - b))
    a, b = (a - level, b) if a > b else (a, b - level)
    rest = excess - level
    return a - rest // 2, b - (rest + 1) // 2


class Format:
    """Texts between three special tokens: `first a last`, or `first a between b last`.

    A subclass names them, and may leave some out (`head`, `tail`); `summary` is the token that heads read for the whole, and
    that stands for no answer. `both_orders` says that a pair whose texts may change places is written in both orders.
    """

    first: int
    between: int
    last: int
    pad_id: int
    summary: Literal["first", "between", "last"]
    both_orders: bool = False

    @property
    def head(self) -> list[int]:
        """What stands before the first text."""
        return [self.first]

    def tail(self, pair: bool) -> list[int]:
        """What stands after one text, or after the second of a pair."""
        return [self.last]

    def largest_id(self, writes: str) -> int:
        """The largest of its special ids that the method `writes` puts into a text; a model must have an embedding for it."""
        return max(self.first, self.between, self.last)

    def texts(self, a: Sequence[list[int]], b: Sequence[list[int]] | None, max_len: int) -> Written:
        """One text or a pair; longer ones than `max_len` are truncated longest first, and counted."""
        ids: list[int] = []
        seconds: list[int] = []  # tokens of segment 1, per example
        lengths: list[int] = []
        head, tail = self.head, self.tail(b is not None)
        truncated = 0
        for number, first in enumerate(a):
            second = None if b is None else b[number]
            if second is None:
                kept = min(len(first), max_len - len(head) - len(tail))
                truncated += kept < len(first)
                ids += [*head, *first[:kept], *tail]
                seconds.append(0)
                lengths.append(len(head) + kept + len(tail))
                continue
            kept_a, kept_b = truncated_lengths(len(first), len(second), max_len - len(head) - 1 - len(tail))
            truncated += kept_a + kept_b < len(first) + len(second)
            ids += [*head, *first[:kept_a], self.between, *second[:kept_b], *tail]
            seconds.append(kept_b + len(tail))
            lengths.append(len(head) + kept_a + 1 + kept_b + len(tail))
        size = np.asarray(lengths, dtype=np.int64)
        second_size = np.asarray(seconds, dtype=np.int64)
        parts = np.stack([size - second_size, second_size], axis=1).ravel()
        segment_ids = np.repeat(np.tile(np.array([0, 1], dtype=np.uint8), len(size)), parts)
        return Written(
            ids=np.asarray(ids, dtype=np.int32),
            segment_ids=segment_ids,
            offsets=np.concatenate([[0], np.cumsum(size)]),
            pooler_position=self._summaries(size, size - second_size),
            truncated=truncated,
        )

    def windows(
        self,
        questions: Sequence[list[int]],
        contexts: Sequence[list[int]],
        max_len: int,
        stride: int,
        max_question: int,
    ) -> Windows:
        """`first question between part of the context last`: as many as the context needs, each `stride` tokens further on.

        As in BERT's code for SQuAD: questions are cut to `max_question` tokens (and counted), contexts never lose a token.
        Raises ConfigurationError when a window has no room to advance by `stride`.
        """
        ids: list[int] = []
        tail = self.tail(True)
        parts: list[tuple[int, int, int, int, int]] = []  # example, context start, first token, tokens, length
        truncated = 0
        for number, (question, context) in enumerate(zip(questions, contexts, strict=True)):
            truncated += len(question) > max_question
            head = [*self.head, *question[:max_question], self.between]
            room = max_len - len(head) - len(tail)
            if room < min(stride, len(context)):
                raise ConfigurationError(
                    f"max_len={max_len} leaves {room} tokens for a context, fewer than the stride of {stride}, so tokens "
                    "would be skipped; a longer task.max_len, a smaller task.data.stride or task.data.max_question"
                )
            first = 0
            while True:
                part = context[first : first + room]
                ids += [*head, *part, *tail]
                parts.append((number, len(head), first, len(part), len(head) + len(part) + len(tail)))
                if first + len(part) >= len(context):
                    break
                first += stride
        example, starts, firsts, tokens, sizes = np.asarray(parts, dtype=np.int64).reshape(-1, 5).T
        pieces = np.stack([starts, sizes - starts], axis=1).ravel()
        return Windows(
            ids=np.asarray(ids, dtype=np.int32),
            segment_ids=np.repeat(np.tile(np.array([0, 1], dtype=np.uint8), len(sizes)), pieces),
            offsets=np.concatenate([[0], np.cumsum(sizes)]),
            null_position=self._summaries(sizes, starts),
            example=example,
            context_start=starts.astype(np.int32),
            first_token=firsts.astype(np.int32),
            context_tokens=tokens.astype(np.int32),
            truncated=truncated,
        )

    def _summaries(
        self, sizes: Int[ndarray, "examples"], seconds: Int[ndarray, "examples"]
    ) -> Int[ndarray, "examples"]:
        """Where each summary stands, in texts of these sizes whose second part begins at `seconds`."""
        if self.summary == "first":
            return np.zeros_like(sizes).astype(np.int32)
        return (sizes - 1 if self.summary == "last" else seconds - 1).astype(np.int32)


class BertFormat(Format):
    """`[CLS] a [SEP]` or `[CLS] a [SEP] b [SEP]`, segments 0 and 1 (arXiv 1810.04805, section 3).

    `summary` is [CLS], the first token, or for a model that reads from left to right (section 5.1) the last, since its first
    token has seen nothing.
    """

    def __init__(self, tokenizer: Tokenizer, summary: Literal["first", "last"] = "first") -> None:
        self.summary = summary
        self.first, self.between = tokenizer.id("[CLS]"), tokenizer.id("[SEP]")
        self.last = self.between
        self.pad_id = tokenizer.id("[PAD]")
        self.special_ids = (self.first, self.between)
        self._tokenizer = tokenizer

    def __repr__(self) -> str:
        return f"{type(self).__qualname__}(summary={self.summary!r})"

    @property
    def mask_id(self) -> int:
        """[MASK], which only pretraining needs. Raises UserError when the vocabulary lacks it."""
        return self._tokenizer.id("[MASK]")


class SeparatedFormat(Format):
    """`a sep`, or `a sep b`: for models that give no token of its own to the whole (the 2017 encoder, RNN, CNN).

    The separator is the vocabulary's [SEP] where it has one, else a new embedding, numbered after its own tokens. Of a question
    it stands for no answer.
    """

    summary: Literal["first", "between", "last"] = "between"

    def __init__(self, tokenizer: Tokenizer) -> None:
        found = tokenizer.rust.token_to_id("[SEP]")
        self.between = tokenizer.vocab_size if found is None else found
        self.first = self.last = self.between
        self.pad_id = 0  # masked, so that any id would do
        self.special_ids = (self.between,)
        self._tokenizer = tokenizer

    def __repr__(self) -> str:
        return f"{type(self).__qualname__}()"

    @property
    def head(self) -> list[int]:
        return []

    def tail(self, pair: bool) -> list[int]:
        return [] if pair else [self.between]

    @property
    def mask_id(self) -> int:
        """[MASK], which only pretraining needs. Raises UserError when the vocabulary lacks it."""
        return self._tokenizer.id("[MASK]")


class GptFormat(Format):
    """`start a extract` or `start a delimiter b extract` (Radford et al. 2018, section 3.3 and figure 1).

    The three are new embeddings, numbered after the vocabulary's own tokens. Heads read the extract token, the only one that
    has seen the whole; of a question it stands for no answer. `end` closes a document of running text: the vocabulary's
    end-of-text token where it has one (GPT-2's), else the extract token.
    """

    summary: Literal["first", "between", "last"] = "last"

    def __init__(self, tokenizer: Tokenizer, both_orders: bool = True) -> None:
        known = tokenizer.vocab_size
        self.first, self.between, self.last = known, known + 1, known + 2
        self.pad_id = 0  # masked, so that any id would do
        self.both_orders = both_orders
        end = tokenizer.rust.token_to_id(END_OF_TEXT)
        self.end = self.last if end is None else end

    def __repr__(self) -> str:
        return f"{type(self).__qualname__}(both_orders={self.both_orders})"

    def largest_id(self, writes: str) -> int:
        return self.end if writes == "blocks" else super().largest_id(writes)

    def blocks(self) -> int:
        """Running text is written as it is, document after document, and this token closes each."""
        return self.end
