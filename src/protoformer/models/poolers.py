"""Poolers: from the hidden states of a sequence to the one vector that a task's head reads."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from protoformer.blocks.kernels.packing import HiddenStates


class FirstTokenPooler(nn.Module):
    """tanh(W h + b) of the vector at the format's pooler position, for BERT its [CLS] (arXiv 1810.04805, section 3)."""

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.dense = nn.Linear(d_model, d_model)

    def forward(self, hidden: HiddenStates, position: Int[Tensor, "batch"]) -> Float[Tensor, "batch d_model"]:
        return torch.tanh(self.dense(hidden.at(position)))


class MeanPooler(nn.Module):
    """The mean of a sequence's vectors, of models that give no token of its own to the whole; the position is not read."""

    def forward(self, hidden: HiddenStates, position: Int[Tensor, "batch"]) -> Float[Tensor, "batch d_model"]:
        rows, real = hidden.to_padded(), hidden.layout.padding_mask
        if real is None:
            return rows.mean(1)
        return (rows * real[:, :, None].to(rows.dtype)).sum(1) / real.sum(1, keepdim=True).clamp_min(1).to(rows.dtype)


class TokenPooler(nn.Module):
    """The vector at the format's pooler position as it is: of a decoder its last token's, which has seen the whole text
    (Radford et al. 2018, section 3.2)."""

    def forward(self, hidden: HiddenStates, position: Int[Tensor, "batch"]) -> Float[Tensor, "batch d_model"]:
        return hidden.at(position)
