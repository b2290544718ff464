"""Poolers: hidden states of a sequence -> the one vector that a task's head reads."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from protoformer.blocks.kernels.packing import HiddenStates


class FirstTokenPooler(nn.Module):
    """tanh(W h + b) of the hidden state at the pooler position, BERT's [CLS] (arXiv 1810.04805, section 3)."""

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.dense = nn.Linear(d_model, d_model)

    def forward(self, hidden: HiddenStates, position: Int[Tensor, "batch"]) -> Float[Tensor, "batch d_model"]:
        return torch.tanh(self.dense(hidden.at(position)))


class MeanPooler(nn.Module):
    """The mean of a sequence's hidden states, for models without a pooled token; `position` is unused."""

    def forward(self, hidden: HiddenStates, position: Int[Tensor, "batch"]) -> Float[Tensor, "batch d_model"]:
        rows, real = hidden.to_padded(), hidden.layout.padding_mask
        if real is None:
            return rows.mean(1)
        # padding must not count: (batch, seq, d_model) -> (batch, d_model)
        return (rows * real[:, :, None].to(rows.dtype)).sum(1) / real.sum(1, keepdim=True).clamp_min(1).to(rows.dtype)


class TokenPooler(nn.Module):
    """The hidden state at the pooler position, of a decoder the last token's, which attends to the whole text (Radford et al.
    2018, section 3.2)."""

    def forward(self, hidden: HiddenStates, position: Int[Tensor, "batch"]) -> Float[Tensor, "batch d_model"]:
        return hidden.at(position)
