"""Losses of windows of running text: of each window the sum over the tokens that it scores."""

import torch
from jaxtyping import Float
from torch import Tensor

from protoformer.batches import LanguageBatch
from protoformer.blocks.kernels.linear_cross_entropy import linear_cross_entropy
from protoformer.models.decoder import Decoder


@torch.inference_mode()
def window_losses(model: Decoder, batch: LanguageBatch) -> Float[Tensor, "windows"]:
    """-log P in nats, summed in double precision; logits are made of the scored positions alone."""
    hidden = model(batch["ids"], batch["padding_mask"], lengths=batch.get("lengths"))
    row, column = (batch["target_ids"] >= 0).nonzero(as_tuple=True)
    losses = linear_cross_entropy(
        hidden.gather(row, column), model.output_weight, batch["target_ids"][row, column]
    ).double()
    return losses.new_zeros(len(batch["ids"])).index_add_(0, row, losses)
