"""Poolers: from the hidden states of a sequence to the one vector that a task's head reads."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from protoformer.blocks.packing import Hidden


class FirstTokenPooler(nn.Module):
    """tanh(W h + b) of the vector at the format's pooler position, for BERT its [CLS] (arXiv 1810.04805, section 3)."""

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.dense = nn.Linear(d_model, d_model)

    def forward(self, hidden: Hidden, position: Int[Tensor, "batch"]) -> Float[Tensor, "batch d_model"]:
        return torch.tanh(self.dense(hidden.at(position)))


class TokenPooler(nn.Module):
    """The vector at the format's pooler position as it is: of a decoder its last token's, which has seen the whole text
    (Radford et al. 2018, section 3.2)."""

    def forward(self, hidden: Hidden, position: Int[Tensor, "batch"]) -> Float[Tensor, "batch d_model"]:
        return hidden.at(position)
