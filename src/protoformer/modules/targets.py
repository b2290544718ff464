"""Target positions of a batch, and their losses."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from protoformer.blocks.kernels.linear_cross_entropy import linear_cross_entropy
from protoformer.blocks.kernels.packing import HiddenStates


def sequence_losses(
    hidden: HiddenStates, ids: Int[Tensor, "sequences seq"], embedding: Float[Tensor, "vocab d_model"]
) -> Float[Tensor, "sequences"]:
    """The mean over each sequence's tokens but the first of their negative log likelihood."""
    padding_mask = hidden.layout.padding_mask
    known = follows(torch.ones_like(ids, dtype=torch.bool) if padding_mask is None else padding_mask)
    row, column = places(known)
    losses = linear_cross_entropy(hidden.gather(row, column), embedding, ids[row, column + 1])
    return losses.new_zeros(len(ids)).index_add(0, row, losses) / known.sum(1).clamp(min=1)


def follows(padding_mask: Bool[Tensor, "sequences seq"]) -> Bool[Tensor, "sequences before"]:
    """Of every place but the last, whether a token follows the one there."""
    return padding_mask[:, :-1] & padding_mask[:, 1:]


def places(known: Bool[Tensor, "sequences before"]) -> tuple[Int[Tensor, "targets"], Int[Tensor, "targets"]]:
    """Row and column of what is true; on the meta device, where nothing can be looked up, of every place."""
    if known.is_meta:
        every = torch.ones(known.shape, dtype=torch.bool, device="cpu").nonzero().to("meta")
        return every[:, 0], every[:, 1]
    row, column = known.nonzero(as_tuple=True)
    return row, column
