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


class ClassificationBatch(TypedDict):
    """One label a text (or pair); -1 where a test split hides it. Floats for regression.

    The axis `orders` is there only where each pair is written in both orders (two of them).
    """

    ids: Int[Tensor, "batch *orders seq"]
    padding_mask: Bool[Tensor, "batch *orders seq"]
    segment_ids: Int[Tensor, "batch *orders seq"]
    pooler_position: Int[Tensor, "batch *orders"]
    example_ids: Int[Tensor, "batch"]
    labels: Int[Tensor, "batch"] | Float[Tensor, "batch"]


class SpanBatch(TextBatch):
    """A window of a question and its context. Answers lie where `context_mask` is True and start where `own_mask` is; both
    positions are the null position where this window shows no answer. `example_ids` are window numbers."""

    context_mask: Bool[Tensor, "batch seq"]
    own_mask: Bool[Tensor, "batch seq"]
    null_position: Int[Tensor, "batch"]
    start_position: Int[Tensor, "batch"]
    end_position: Int[Tensor, "batch"]


class ChoiceBatch(TypedDict):
    """Several ways to go on from one text, of which `labels` names the right one (-1: hidden)."""

    ids: Int[Tensor, "batch choices seq"]
    padding_mask: Bool[Tensor, "batch choices seq"]
    segment_ids: Int[Tensor, "batch choices seq"]
    pooler_position: Int[Tensor, "batch choices"]
    example_ids: Int[Tensor, "batch"]
    labels: Int[Tensor, "batch"]


class PretrainingBatch(TextBatch):
    """Texts of which some tokens are to be told. `target_position` holds columns of `ids`, `target_ids` the tokens that
    belong there (-1 where a row has fewer targets than the widest); `next_sentence` is 0 where the second part follows the
    first in its document, 1 where it is from another one, -1 where there are no two parts.

    `targets` counts this micro-batch's tokens to tell and pairs to judge, fillers left out.
    """

    target_position: Int[Tensor, "batch predictions"]
    target_ids: Int[Tensor, "batch predictions"]
    next_sentence: Int[Tensor, "batch"]
    targets: Int[Tensor, "2"]


class LanguageBatch(TypedDict):
    """Running text of which each token is to tell the next: `target_ids`, -1 where a row has ended or counts nowhere.
    `example_ids` are block numbers; several rows may be parts of one block."""

    ids: Int[Tensor, "batch seq"]
    padding_mask: Bool[Tensor, "batch seq"]
    target_ids: Int[Tensor, "batch seq"]
    example_ids: Int[Tensor, "batch"]


class TranslationBatch(TypedDict):
    """Texts with their translations. The decoder reads `decoder_ids`, a start and the target, and is to tell `target_ids`, the
    target and its end; -1 where a row has ended or counts nowhere. `example_ids` are numbers of pairs in the split."""

    ids: Int[Tensor, "batch sources"]
    padding_mask: Bool[Tensor, "batch sources"]
    decoder_ids: Int[Tensor, "batch targets"]
    decoder_mask: Bool[Tensor, "batch targets"]
    target_ids: Int[Tensor, "batch targets"]
    example_ids: Int[Tensor, "batch"]
