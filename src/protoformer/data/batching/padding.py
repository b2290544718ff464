"""From rows of a flat table to rectangles."""

from collections.abc import Sequence
from typing import TypedDict

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from protoformer.data.batching.samplers import fillers
from protoformer.data.cache import Table, TokenTable


class Rectangles(TypedDict):
    """The part of a batch that every encoder reads."""

    ids: Int[Tensor, "batch seq"]
    padding_mask: Bool[Tensor, "batch seq"]
    segment_ids: Int[Tensor, "batch seq"]


def padded(table: Table, chosen: Sequence[int], pad_id: int) -> Rectangles:
    """Rows side by side, padded at their ends to the longest of them."""
    starts, ends = table.offsets[chosen], table.offsets[np.asarray(chosen) + 1]
    shape = (len(chosen), int((ends - starts).max()))
    ids = np.full(shape, pad_id, dtype=np.int64)
    segment_ids = np.zeros(shape, dtype=np.int64)
    padding_mask = np.zeros(shape, dtype=bool)
    for number, (start, end) in enumerate(zip(starts, ends, strict=True)):
        ids[number, : end - start] = table.ids[start:end]
        segment_ids[number, : end - start] = table.segment_ids[start:end]
        padding_mask[number, : end - start] = True
    return Rectangles(
        ids=torch.from_numpy(ids),
        padding_mask=torch.from_numpy(padding_mask),
        segment_ids=torch.from_numpy(segment_ids),
    )


class LabelledRectangles(TypedDict):
    """Examples of several sequences, all padded to the longest, and what is asked of them."""

    ids: Int[Tensor, "batch sequences seq"]
    padding_mask: Bool[Tensor, "batch sequences seq"]
    segment_ids: Int[Tensor, "batch sequences seq"]
    pooler_position: Int[Tensor, "batch sequences"]
    example_ids: Int[Tensor, "batch"]
    labels: Tensor


def labelled(table: TokenTable, indices: Sequence[int], pad_id: int) -> LabelledRectangles:
    """Examples (or fillers) of a table, by number."""
    chosen, real = fillers(indices)
    shape = (len(chosen), table.sequences)
    rows = (np.asarray(chosen)[:, None] * table.sequences + np.arange(table.sequences)).ravel()
    rectangles = padded(table, rows.tolist(), pad_id)
    return LabelledRectangles(
        ids=rectangles["ids"].unflatten(0, shape),
        padding_mask=rectangles["padding_mask"].unflatten(0, shape),
        segment_ids=rectangles["segment_ids"].unflatten(0, shape),
        pooler_position=torch.from_numpy(table.pooler_position[rows].astype(np.int64)).unflatten(0, shape),
        example_ids=torch.from_numpy(np.where(real, table.row[chosen], -1)),
        labels=torch.from_numpy(np.asarray(table.labels[chosen])),
    )
