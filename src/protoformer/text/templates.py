"""Input templates: how one model family encodes an example as ids.

A template is named by the model's yaml. Each of its methods encodes one shape of example; a model whose template lacks a method
cannot run the tasks that need it. A template also names the positions that heads read: `pooler_position`, the vector for the
whole sequence, and `null_position`, the position that stands for "no answer".
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Int, UInt8
from numpy import ndarray

from protoformer.errors import ConfigurationError
from protoformer.text.tokenizers import Tokenizer

PooledToken = Literal["first", "separator", "last"]


@dataclass(frozen=True)
class EncodedExamples:
    """Examples as flat arrays: example i is `ids[offsets[i] : offsets[i + 1]]`.

    `truncated` counts examples that lost tokens.
    """

    ids: Int[ndarray, "tokens"]
    segment_ids: UInt8[ndarray, "tokens"]
    offsets: Int[ndarray, "examples_1"]
    pooler_position: Int[ndarray, "examples"]
    truncated: int


@dataclass(frozen=True)
class Windows:
    """Question-context pairs cut into windows: window i is `ids[offsets[i] : offsets[i + 1]]`.

    Window i shows `context_tokens[i]` tokens of the context of pair `example[i]`, from context token `first_token[i]` on. They
    begin at position `context_start[i]` of the window. `truncated` counts questions that lost tokens.
    """

    ids: Int[ndarray, "tokens"]
    segment_ids: UInt8[ndarray, "tokens"]
    offsets: Int[ndarray, "windows_1"]
    null_position: Int[ndarray, "windows"]
    example: Int[ndarray, "windows"]
    context_start: Int[ndarray, "windows"]
    first_token: Int[ndarray, "windows"]
    context_tokens: Int[ndarray, "windows"]
    truncated: int


def truncated_lengths(a: int, b: int, max_tokens: int) -> tuple[int, int]:
    """Lengths of a pair cut to `max_tokens`: the longer side loses tokens one by one, b first where both are as long.

    BERT's "longest first" (its code, `_truncate_seq_pair`), in closed form.
    """
    excess = a + b - max_tokens
    if excess <= 0:
        return a, b
    # the longer side alone loses tokens until both are as long
    leveling = min(excess, abs(a - b))
    a, b = (a - leveling, b) if a > b else (a, b - leveling)
    # then both in turn
    rest = excess - leveling
    return a - rest // 2, b - (rest + 1) // 2


class InputTemplate:
    """Texts between three special tokens: `bos a eos`, or `bos a sep b eos`.

    A subclass names the ids, and may leave some out (`prefix`, `suffix`). `pooled_token` says which of the three tokens heads
    read for the whole sequence; it also stands for "no answer". With `both_orders` symmetric pairs are encoded in both orders.
    """

    bos_id: int
    sep_id: int
    eos_id: int
    pad_id: int
    pooled_token: PooledToken
    both_orders: bool = False

    @property
    def prefix(self) -> list[int]:
        """Ids before the first text."""
        return [self.bos_id]

    def suffix(self, pair: bool) -> list[int]:
        """Ids after a single text, or after the second text of a pair."""
        return [self.eos_id]

    def largest_id(self, method: str) -> int:
        """The largest special id that `method` puts into a text; a model must have an embedding for it."""
        return max(self.bos_id, self.sep_id, self.eos_id)

    @property
    def special_token_labels(self) -> dict[int, str]:
        """The special ids, and what a reader is shown for those that the vocabulary lacks."""
        return {
            self.bos_id: "[start]",
            self.sep_id: "[delimiter]",
            self.eos_id: "[extract]" if self.pooled_token == "last" else "[end]",
        }

    def encode_texts(self, a: Sequence[list[int]], b: Sequence[list[int]] | None, max_len: int) -> EncodedExamples:
        """Encoded texts or pairs of at most `max_len` tokens, truncated longest first."""
        ids: list[int] = []
        first_lengths: list[int] = []  # tokens of segment 0, per example
        second_lengths: list[int] = []  # tokens of segment 1
        prefix, suffix = self.prefix, self.suffix(b is not None)
        truncated = 0
        for index, first in enumerate(a):
            if b is None:
                kept = min(len(first), max_len - len(prefix) - len(suffix))
                truncated += int(kept < len(first))
                ids += [*prefix, *first[:kept], *suffix]
                first_lengths.append(len(prefix) + kept + len(suffix))
                second_lengths.append(0)
                continue
            second = b[index]
            kept_a, kept_b = truncated_lengths(len(first), len(second), max_len - len(prefix) - 1 - len(suffix))
            truncated += int(kept_a + kept_b < len(first) + len(second))
            ids += [*prefix, *first[:kept_a], self.sep_id, *second[:kept_b], *suffix]
            first_lengths.append(len(prefix) + kept_a + 1)
            second_lengths.append(kept_b + len(suffix))
        boundaries = np.asarray(first_lengths, dtype=np.int64)
        lengths = boundaries + np.asarray(second_lengths, dtype=np.int64)
        return EncodedExamples(
            ids=np.asarray(ids, dtype=np.int32),
            segment_ids=_segment_ids(boundaries, lengths),
            offsets=np.concatenate([[0], np.cumsum(lengths)]),
            pooler_position=self._pooled_positions(boundaries, lengths),
            truncated=truncated,
        )

    def encode_windows(
        self,
        questions: Sequence[list[int]],
        contexts: Sequence[list[int]],
        max_len: int,
        stride: int,
        max_question: int,
    ) -> Windows:
        """Encoded windows `bos question sep context-part eos`: as many as a context needs, each `stride` tokens further on.

        As in BERT's code for SQuAD: questions are cut to `max_question` tokens, contexts never lose a token.
        Raises ConfigurationError where a window is too short to advance by `stride`.
        """
        ids: list[int] = []
        suffix = self.suffix(True)
        rows: list[tuple[int, int, int, int, int]] = []  # example, context_start, first_token, context_tokens, length
        truncated = 0
        for example, (question, context) in enumerate(zip(questions, contexts, strict=True)):
            truncated += int(len(question) > max_question)
            prefix = [*self.prefix, *question[:max_question], self.sep_id]
            capacity = max_len - len(prefix) - len(suffix)
            if capacity < min(stride, len(context)):
                raise ConfigurationError(
                    f"max_len={max_len} leaves {capacity} tokens for a context, fewer than the stride of {stride}, so tokens "
                    "would be skipped; a longer task.max_len, a smaller task.data.stride or task.data.max_question"
                )
            first_token = 0
            while True:
                part = context[first_token : first_token + capacity]
                ids += [*prefix, *part, *suffix]
                rows.append((example, len(prefix), first_token, len(part), len(prefix) + len(part) + len(suffix)))
                if first_token + len(part) >= len(context):
                    break
                first_token += stride
        examples, starts, first_tokens, tokens, lengths = np.asarray(rows, dtype=np.int64).reshape(-1, 5).T
        return Windows(
            ids=np.asarray(ids, dtype=np.int32),
            segment_ids=_segment_ids(starts, lengths),
            offsets=np.concatenate([[0], np.cumsum(lengths)]),
            null_position=self._pooled_positions(starts, lengths),
            example=examples,
            context_start=starts.astype(np.int32),
            first_token=first_tokens.astype(np.int32),
            context_tokens=tokens.astype(np.int32),
            truncated=truncated,
        )

    def _pooled_positions(
        self, boundaries: Int[ndarray, "examples"], lengths: Int[ndarray, "examples"]
    ) -> Int[ndarray, "examples"]:
        """Position of the pooled token in sequences whose second segment begins at `boundaries`."""
        match self.pooled_token:
            case "first":
                positions = np.zeros_like(lengths)
            case "separator":
                positions = boundaries - 1
            case "last":
                positions = lengths - 1
        return positions.astype(np.int32)


def _segment_ids(boundaries: Int[ndarray, "examples"], lengths: Int[ndarray, "examples"]) -> UInt8[ndarray, "tokens"]:
    """0 up to each sequence's boundary and 1 from there on, flat."""
    runs = np.stack([boundaries, lengths - boundaries], axis=1).ravel()
    return np.repeat(np.tile(np.array([0, 1], dtype=np.uint8), len(lengths)), runs)


class BertTemplate(InputTemplate):
    """`[CLS] a [SEP]` or `[CLS] a [SEP] b [SEP]`, segments 0 and 1 (arXiv 1810.04805, section 3).

    The pooled token is [CLS], the first. For a left-to-right model (section 5.1) it is the last, since its first token has seen
    nothing else.
    """

    def __init__(self, tokenizer: Tokenizer, pooled_token: Literal["first", "last"] = "first") -> None:
        self.pooled_token = pooled_token
        self.bos_id, self.sep_id, self.pad_id = (
            tokenizer.id(tokenizer.special_token(role)) for role in ("cls_token", "sep_token", "pad_token")
        )
        self.eos_id = self.sep_id
        self.special_ids = (self.bos_id, self.sep_id)
        self._tokenizer = tokenizer

    def __repr__(self) -> str:
        return f"{type(self).__qualname__}(pooled_token={self.pooled_token!r})"

    @property
    def mask_id(self) -> int:
        """[MASK], which only pretraining needs. Raises UserError when the vocabulary lacks it."""
        return self._tokenizer.id(self._tokenizer.special_token("mask_token"))


class SeparatedTemplate(InputTemplate):
    """`a sep`, or `a sep b`, for models without a token for the whole sequence (the 2017 encoder, RNN, CNN).

    The separator is the vocabulary's [SEP], or else a new embedding, numbered after the vocabulary.
    It also stands for "no answer".
    """

    pooled_token: PooledToken = "separator"

    def __init__(self, tokenizer: Tokenizer) -> None:
        sep_id = tokenizer.hf_tokenizer.token_to_id(tokenizer.special_token("sep_token"))
        self.sep_id = tokenizer.vocab_size if sep_id is None else sep_id
        self.bos_id = self.eos_id = self.sep_id
        self.pad_id = 0  # masked, so any id would do
        self.special_ids = (self.sep_id,)
        self._tokenizer = tokenizer

    def __repr__(self) -> str:
        return f"{type(self).__qualname__}()"

    @property
    def prefix(self) -> list[int]:
        return []

    def suffix(self, pair: bool) -> list[int]:
        return [] if pair else [self.sep_id]

    @property
    def mask_id(self) -> int:
        """[MASK], which only pretraining needs. Raises UserError when the vocabulary lacks it."""
        return self._tokenizer.id(self._tokenizer.special_token("mask_token"))


class GptTemplate(InputTemplate):
    """`start a extract` or `start a delimiter b extract` (Radford et al. 2018, section 3.3 and figure 1).

    The three are new embeddings, numbered after the vocabulary: `bos_id`, `sep_id` and `eos_id`. Heads read the extract token,
    the only one that has seen the whole sequence. Documents of running text end in `end_of_text_id`: the vocabulary's
    end-of-text token (GPT-2's), or else the extract token.
    """

    pooled_token: PooledToken = "last"

    def __init__(self, tokenizer: Tokenizer, both_orders: bool = True) -> None:
        new_id = tokenizer.vocab_size
        self.bos_id, self.sep_id, self.eos_id = new_id, new_id + 1, new_id + 2
        self.pad_id = 0  # masked, so any id would do
        self.both_orders = both_orders
        end_of_text_id = tokenizer.hf_tokenizer.token_to_id(tokenizer.special_token("eos_token"))
        self.end_of_text_id = self.eos_id if end_of_text_id is None else end_of_text_id

    def __repr__(self) -> str:
        return f"{type(self).__qualname__}(both_orders={self.both_orders})"

    def largest_id(self, method: str) -> int:
        return self.end_of_text_id if method == "document_end_id" else super().largest_id(method)

    def document_end_id(self) -> int:
        """The token that closes each document of running text, which is otherwise encoded as it is."""
        return self.end_of_text_id
