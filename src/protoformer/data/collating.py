"""From rows of a flat table to rectangles."""

from collections.abc import Sequence
from typing import TypedDict

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from protoformer.data.token_cache import Table


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
