"""Batch contracts: typed dicts of tensors that data modules make and models read.

Batches are rectangular; `padding_mask` is True on real tokens. `example_ids` are row numbers in the split; -1 marks a dummy
row, which only fills a batch up so that every rank has as many, and counts in no loss and no score.

The loader adds what the host knows of a batch (`HostCounts`), so that no step has to ask the device for it.
"""

from typing import NamedTuple, TypedDict, TypeVar

from jaxtyping import Bool, Float, Int
from torch import Tensor

from protoformer.blocks.kernels.packing import SequenceLengths


class HostCounts(TypedDict, total=False):
    """Counts of a batch that stay on the host: lengths of all its sequences, row after row (of an encoder-decoder also those
    of the targets), and the number of its `target_ids` that are not -1.

    Where they are missing they are read from the device.
    """

    lengths: SequenceLengths
    decoder_lengths: SequenceLengths
    target_count: int


class Batch(HostCounts):
    """What a batch of any kind has; `...` are axes of the kind's own."""

    ids: Int[Tensor, "batch ... seq"]
    padding_mask: Bool[Tensor, "batch ... seq"]
    example_ids: Int[Tensor, "batch"]


BatchT = TypeVar("BatchT", bound=Batch)


class TermCounts(TypedDict):
    """Of a batch whose loss has several terms: the number of targets of each."""

    targets: Int[Tensor, "terms"]


class TextBatch(HostCounts):
    """Input of an encoder."""

    ids: Int[Tensor, "batch seq"]
    padding_mask: Bool[Tensor, "batch seq"]
    segment_ids: Int[Tensor, "batch seq"]
    pooler_position: Int[Tensor, "batch"]
    example_ids: Int[Tensor, "batch"]


class ClassificationBatch(HostCounts):
    """Texts or pairs with one label each: a class, or a float for regression; -1 where a test split hides it.

    An example has one sequence, or two where pairs are encoded in both orders.
    """

    ids: Int[Tensor, "batch sequences seq"]
    padding_mask: Bool[Tensor, "batch sequences seq"]
    segment_ids: Int[Tensor, "batch sequences seq"]
    pooler_position: Int[Tensor, "batch sequences"]
    example_ids: Int[Tensor, "batch"]
    labels: Int[Tensor, "batch"] | Float[Tensor, "batch"]


class SpanBatch(TextBatch):
    """Windows of a question and its context; `example_ids` are window numbers.

    Answers lie where `context_mask` is True and start where `max_context_mask` is: on tokens that have more context in this
    window than in any other. Start and end are the null position where this window shows no answer.
    """

    context_mask: Bool[Tensor, "batch seq"]
    max_context_mask: Bool[Tensor, "batch seq"]
    null_position: Int[Tensor, "batch"]
    start_position: Int[Tensor, "batch"]
    end_position: Int[Tensor, "batch"]


class ChoiceBatch(HostCounts):
    """Contexts with several choices each, of which `labels` is the index of the right one (-1: hidden)."""

    ids: Int[Tensor, "batch choices seq"]
    padding_mask: Bool[Tensor, "batch choices seq"]
    segment_ids: Int[Tensor, "batch choices seq"]
    pooler_position: Int[Tensor, "batch choices"]
    example_ids: Int[Tensor, "batch"]
    labels: Int[Tensor, "batch"]


class PretrainingBatch(TextBatch):
    """Texts with tokens to predict.

    `target_position` holds positions in `ids`, `target_ids` the tokens that belong there (-1 where a row has fewer targets than
    the widest). `next_sentence` is 0 where the second part follows the first in its document, 1 where it is from another
    document, -1 where there are no two parts. `targets` counts this micro-batch's token targets and next-sentence targets,
    without dummy rows.
    """

    target_position: Int[Tensor, "batch predictions"]
    target_ids: Int[Tensor, "batch predictions"]
    next_sentence: Int[Tensor, "batch"]
    targets: Int[Tensor, "2"]


class LanguageBatch(HostCounts):
    """Running text; `target_ids` is the next token at each position, -1 after a row's end and on dummy rows.

    `example_ids` are block numbers; several rows may be parts of one block.
    """

    ids: Int[Tensor, "batch seq"]
    padding_mask: Bool[Tensor, "batch seq"]
    target_ids: Int[Tensor, "batch seq"]
    example_ids: Int[Tensor, "batch"]


class TranslationBatch(HostCounts):
    """Source texts and targets: `decoder_ids` is `bos target`, `target_ids` is `target eos`.

    `target_ids` is -1 after a row's end and on dummy rows. `example_ids` are pair numbers in the split.
    """

    ids: Int[Tensor, "batch sources"]
    padding_mask: Bool[Tensor, "batch sources"]
    decoder_ids: Int[Tensor, "batch targets"]
    decoder_mask: Bool[Tensor, "batch targets"]
    target_ids: Int[Tensor, "batch targets"]
    example_ids: Int[Tensor, "batch"]


class PromptSequence(NamedTuple):
    """A context and a completion, which begins at `start`; `number` is that of the sequence in its table."""

    ids: list[int]
    start: int
    number: int


class PromptBatch(HostCounts):
    """Examples of a split under one draw of shots, as sequences; their number differs between examples.

    `sequences[i]` are those of example i; first its completions behind their contexts, then, where there is an unconditional
    context, behind that one.
    """

    ids: Int[Tensor, "batch 1"]  # of a batch's form only: the first token of each
    padding_mask: Bool[Tensor, "batch 1"]
    example_ids: Int[Tensor, "batch"]
    sequences: list[list[PromptSequence]]
