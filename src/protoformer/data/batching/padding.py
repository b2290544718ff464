"""Padding: sequences of unequal length as one rectangle."""

from collections.abc import Sequence
from typing import TypedDict

import numpy as np
import torch
from jaxtyping import Bool, Int
from numpy import ndarray
from torch import Tensor

from protoformer.data.batching.samplers import decode_dummies
from protoformer.data.cache import Table, TokenTable


class PaddedText(TypedDict):
    """The part of a batch that every encoder reads."""

    ids: Int[Tensor, "batch seq"]
    padding_mask: Bool[Tensor, "batch seq"]
    segment_ids: Int[Tensor, "batch seq"]


class PaddedExamples(TypedDict):
    """Labelled examples of several sequences each."""

    ids: Int[Tensor, "batch sequences seq"]
    padding_mask: Bool[Tensor, "batch sequences seq"]
    segment_ids: Int[Tensor, "batch sequences seq"]
    pooler_position: Int[Tensor, "batch sequences"]
    example_ids: Int[Tensor, "batch"]
    labels: Tensor


def pad(sequences: Sequence[ndarray], value: int) -> tuple[Int[ndarray, "rows longest"], Bool[ndarray, "rows longest"]]:
    """Sequences padded with `value` at their ends to the longest (at least one column), and the mask of their own tokens."""
    lengths = np.asarray([len(sequence) for sequence in sequences])
    mask = np.arange(max(1, lengths.max())) < lengths[:, None]
    padded = np.full(mask.shape, value, dtype=np.int64)
    padded[mask] = np.concatenate(sequences)
    return padded, mask


def split(flat: ndarray, offsets: ndarray, rows: Sequence[int]) -> list[ndarray]:
    """These rows of a flat array in which row i is `flat[offsets[i] : offsets[i + 1]]`."""
    indices = np.asarray(rows)
    bounds = zip(offsets[indices].tolist(), offsets[indices + 1].tolist(), strict=True)
    return [flat[start:end] for start, end in bounds]


def pad_rows(table: Table, rows: Sequence[int], pad_id: int) -> PaddedText:
    """Rows of a table as one rectangle."""
    ids, padding_mask = pad(split(table.ids, table.offsets, rows), pad_id)
    segment_ids, _ = pad(split(table.segment_ids, table.offsets, rows), 0)
    return PaddedText(
        ids=torch.from_numpy(ids),
        padding_mask=torch.from_numpy(padding_mask),
        segment_ids=torch.from_numpy(segment_ids),
    )


def pad_examples(table: TokenTable, indices: Sequence[int], pad_id: int) -> PaddedExamples:
    """Examples of a table (or dummies), all sequences padded to the longest of them."""
    examples, is_real = decode_dummies(indices)
    shape = (len(examples), table.sequences)
    # rows of the flat table: all sequences of the first example, then of the second, ...
    rows = (np.asarray(examples)[:, None] * table.sequences + np.arange(table.sequences)).ravel()
    text = pad_rows(table, rows.tolist(), pad_id)
    return PaddedExamples(
        ids=text["ids"].unflatten(0, shape),
        padding_mask=text["padding_mask"].unflatten(0, shape),
        segment_ids=text["segment_ids"].unflatten(0, shape),
        pooler_position=torch.from_numpy(table.pooler_position[rows].astype(np.int64)).unflatten(0, shape),
        example_ids=torch.from_numpy(np.where(is_real, table.row[examples], -1)),
        labels=torch.from_numpy(np.asarray(table.labels[examples])),
    )
