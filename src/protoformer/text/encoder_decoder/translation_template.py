"""Encoder-decoder input template: `source eos` for the encoder, `bos target eos` for the decoder.

The decoder reads `bos target` and predicts `target eos`: its input is the output shifted right (arXiv 1706.03762, section 3.1).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int
from numpy import ndarray

from protoformer.text.tokenizers import Tokenizer

BOS, EOS = "<start>", "<end>"  # in the vocabulary of a run that was exported


@dataclass(frozen=True)
class EncodedPairs:
    """Sources and targets as flat arrays, each ending in eos.

    Pair i is `ids[offsets[i] : offsets[i + 1]]` and `target_ids[target_offsets[i] : target_offsets[i + 1]]`.
    """

    ids: Int[ndarray, "tokens"]
    offsets: Int[ndarray, "pairs_1"]
    target_ids: Int[ndarray, "target_tokens"]
    target_offsets: Int[ndarray, "pairs_1"]


class TranslationTemplate:
    """Template of source-target pairs.

    `bos_token` and `eos_token` are tokens of the vocabulary. None means an exported run's own `<start>` and `<end>`, or else
    new embeddings, numbered after the vocabulary. `suppressed_tokens` are never generated (bos never is).
    Raises UserError where the vocabulary lacks a named token.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        bos_token: str | None = None,
        eos_token: str | None = None,
        suppressed_tokens: Sequence[str] = (),
    ) -> None:
        if bos_token is None and eos_token is None and {BOS, EOS} <= tokenizer.special_tokens():
            bos_token, eos_token = BOS, EOS
        new_id = tokenizer.vocab_size
        self.bos_id = new_id if bos_token is None else tokenizer.id(bos_token)
        self.eos_id = new_id + (bos_token is None) if eos_token is None else tokenizer.id(eos_token)
        self.suppressed_ids = sorted({self.bos_id, *(tokenizer.id(token) for token in suppressed_tokens)})
        self.pad_id = 0  # masked, so any id would do
        self._tokenizer = tokenizer
        self._arguments = (
            f"bos_token={bos_token!r}, eos_token={eos_token!r}, suppressed_tokens={list(suppressed_tokens)!r}"
        )

    def __repr__(self) -> str:
        return f"{type(self).__qualname__}({self._arguments})"

    def never_generated(self, rows: int) -> set[int]:
        """Of a model's `rows` embeddings those that no target has: suppressed tokens, and rows that are no token."""
        return {*self.suppressed_ids, *self._tokenizer.ids_without_token(rows)} - {self.eos_id}

    def largest_id(self, method: str) -> int:
        """The largest special id; a model must have an embedding for it."""
        return max(self.bos_id, self.eos_id)

    @property
    def special_token_labels(self) -> dict[int, str]:
        """The special ids, and what a reader is shown for those that the vocabulary lacks."""
        return {self.bos_id: "[start]", self.eos_id: "[end]"}

    def encode_pairs(self, sources: Sequence[list[int]], targets: Sequence[list[int]], max_len: int) -> EncodedPairs:
        """Pairs as the model reads them. Sides longer than `max_len`, eos included, lose their last tokens."""
        ids, offsets = self.with_eos(sources, max_len)
        target_ids, target_offsets = self.with_eos(targets, max_len)
        return EncodedPairs(ids, offsets, target_ids, target_offsets)

    def with_eos(
        self, texts: Sequence[list[int]], max_len: int
    ) -> tuple[Int[ndarray, "tokens"], Int[ndarray, "texts_1"]]:
        """Flat ids of texts, each cut to `max_len` and ended by eos, and their offsets."""
        encoded = [[*text[: max_len - 1], self.eos_id] for text in texts]
        flat = np.fromiter((token_id for text in encoded for token_id in text), dtype=np.int32)
        return flat, np.concatenate([[0], np.cumsum([len(text) for text in encoded], dtype=np.int64)])
