"""The batch contracts: what data gives and models take. Rectangular; True in `padding_mask` is a real token.

`example_ids` are row numbers in the split; -1 marks a row that only fills a batch up (so that every rank has as many) and
counts in no loss and no score.
"""

from typing import TypedDict

from jaxtyping import Bool, Float, Int
from torch import Tensor


class TextBatch(TypedDict):
    """What an encoder reads."""

    ids: Int[Tensor, "batch seq"]
    padding_mask: Bool[Tensor, "batch seq"]
    segment_ids: Int[Tensor, "batch seq"]
    pooler_position: Int[Tensor, "batch"]
    example_ids: Int[Tensor, "batch"]


class ClassificationBatch(TextBatch):
    """One label a text (or pair); -1 where a test split hides it. Floats for regression."""

    labels: Int[Tensor, "batch"] | Float[Tensor, "batch"]


class SpanBatch(TextBatch):
    """A window of a question and its context. Answers lie where `context_mask` is True and start where `own_mask` is; both
    positions are the null position where this window shows no answer. `example_ids` are window numbers."""

    context_mask: Bool[Tensor, "batch seq"]
    own_mask: Bool[Tensor, "batch seq"]
    null_position: Int[Tensor, "batch"]
    start_position: Int[Tensor, "batch"]
    end_position: Int[Tensor, "batch"]
