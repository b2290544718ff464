"""How an encoder-decoder reads pairs of texts: `source end` for the encoder, `start target end` for the decoder.

The decoder reads the start and the target, and is to tell the target and the end (arXiv 1706.03762, section 3.1: its input is
the output shifted right).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int
from numpy import ndarray

from protoformer.text.tokenizers import Tokenizer


@dataclass(frozen=True)
class WrittenPairs:
    """Sources and targets as flat arrays, each with its end: pair i holds `offsets[i]` to `offsets[i + 1]` of `ids`, and
    `target_offsets[i]` to `target_offsets[i + 1]` of `target_ids`."""

    ids: Int[ndarray, "tokens"]
    offsets: Int[ndarray, "pairs_1"]
    target_ids: Int[ndarray, "target_tokens"]
    target_offsets: Int[ndarray, "pairs_1"]


START, END = "<start>", "<end>"  # in the vocabulary of a run that was exported


class TranslationFormat:
    """`start` and `end` are words of the vocabulary, or null: an exported run's own `<start>` and `<end>`, or new embeddings,
    numbered after the vocabulary's tokens. `never` are words that no target holds (the start is one anyway). Raises UserError
    where the vocabulary lacks a word that is named."""

    def __init__(
        self, tokenizer: Tokenizer, start: str | None = None, end: str | None = None, never: Sequence[str] = ()
    ) -> None:
        known = tokenizer.vocab_size
        if start is end is None and {START, END} <= tokenizer.special_words():
            start, end = START, END
        self.start = known if start is None else tokenizer.id(start)
        self.end = known + (start is None) if end is None else tokenizer.id(end)
        self.never = sorted({self.start, *(tokenizer.id(word) for word in never)})
        self.pad_id = 0  # masked, so that any id would do
        self._words = (start, end, list(never))

    def __repr__(self) -> str:
        start, end, never = self._words
        return f"{type(self).__qualname__}(start={start!r}, end={end!r}, never={never!r})"

    def largest_id(self, writes: str) -> int:
        """The largest of its special ids; a model must have an embedding for it."""
        return max(self.start, self.end)

    def translation(self, sources: Sequence[list[int]], targets: Sequence[list[int]], max_len: int) -> WrittenPairs:
        """Pairs as they are fed to the model; what is longer than `max_len`, the end included, loses its last tokens."""
        ids, offsets = self.closed(sources, max_len)
        target_ids, target_offsets = self.closed(targets, max_len)
        return WrittenPairs(ids, offsets, target_ids, target_offsets)

    def closed(
        self, texts: Sequence[list[int]], max_len: int
    ) -> tuple[Int[ndarray, "tokens"], Int[ndarray, "texts_1"]]:
        """Texts one after another, each with its end, and where each begins."""
        kept = [[*text[: max_len - 1], self.end] for text in texts]
        flat = np.fromiter((number for text in kept for number in text), dtype=np.int32)
        return flat, np.concatenate([[0], np.cumsum([len(text) for text in kept], dtype=np.int64)])
