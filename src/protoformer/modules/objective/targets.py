"""Target positions of a batch, and the losses of a language model at them."""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from protoformer.blocks.kernels.linear_cross_entropy import linear_cross_entropy
from protoformer.blocks.kernels.packing import HiddenStates


def nonzero_indices(
    mask: Bool[Tensor, "rows columns"], count: int | None = None
) -> tuple[Int[Tensor, "targets"], Int[Tensor, "targets"]]:
    """Row and column indices of what is True. On the meta device, which has no values, those of every element.

    With `count`, the number of them as the host knows it, nothing waits for the device.
    """
    if mask.is_meta:
        all_true = torch.ones(mask.shape, dtype=torch.bool, device="cpu").nonzero().to("meta")
        return all_true[:, 0], all_true[:, 1]
    if count is not None:
        row, column = torch.nonzero_static(mask, size=count).unbind(1)
        return row, column
    row, column = mask.nonzero(as_tuple=True)
    return row, column


def target_count(batch: Mapping[str, Any]) -> Tensor | int:
    """Targets of a batch whose `target_ids` are -1 elsewhere, from the host where it knows them."""
    count: int | None = batch.get("target_count")
    return (batch["target_ids"] >= 0).sum().double() if count is None else count


def has_next_token(padding_mask: Bool[Tensor, "sequences seq"]) -> Bool[Tensor, "sequences seq-1"]:
    """True where a real token is followed by a real token: the positions that predict one."""
    return padding_mask[:, :-1] & padding_mask[:, 1:]


def next_token_losses(
    hidden: HiddenStates, ids: Int[Tensor, "sequences seq"], embedding: Float[Tensor, "vocab d_model"]
) -> Float[Tensor, "sequences"]:
    """Mean of -log P(token | tokens before it) over each sequence's tokens but the first (Radford et al. 2018, equation 1)."""
    padding_mask = hidden.layout.padding_mask
    mask = has_next_token(torch.ones_like(ids, dtype=torch.bool) if padding_mask is None else padding_mask)
    lengths = hidden.layout.host_lengths
    row, column = nonzero_indices(mask, None if lengths is None else lengths.next_tokens)
    token_losses = linear_cross_entropy(hidden.gather(row, column), embedding, ids[row, column + 1])
    return token_losses.new_zeros(len(ids)).index_add(0, row, token_losses) / mask.sum(1).clamp(min=1)
