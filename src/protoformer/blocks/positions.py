"""Positions: learned vectors, or the sinusoids of arXiv 1706.03762, section 3.5."""

from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn


def sinusoids(
    max_seq_len: int, d_model: int, order: Literal["interleaved", "halves"] = "interleaved"
) -> Float[Tensor, "max_seq_len d_model"]:
    """PE(pos, 2i) = sin(pos / 10000^(2i/d_model)), PE(pos, 2i+1) = cos of the same angle.

    `interleaved` is the paper's formula; `halves` puts all sines first, as the paper's own code did.
    """
    angle = torch.arange(max_seq_len, dtype=torch.float64)[:, None] / 10000 ** (
        torch.arange(0, d_model, 2, dtype=torch.float64) / d_model
    )
    sine, cosine = angle.sin(), angle.cos()[:, : d_model // 2]
    if order == "halves":
        return torch.cat([sine, cosine], dim=1).float()
    table = torch.empty(max_seq_len, d_model, dtype=torch.float64)
    table[:, 0::2], table[:, 1::2] = sine, cosine
    return table.float()


class LearnedPositions(nn.Embedding):
    """One trained vector a position (BERT, GPT)."""

    def __init__(self, max_seq_len: int, d_model: int) -> None:
        super().__init__(max_seq_len, d_model)


class SinusoidalPositions(nn.Module):
    """Fixed sinusoids; nothing is trained and nothing is saved."""

    def __init__(self, max_seq_len: int, d_model: int, order: Literal["interleaved", "halves"] = "interleaved") -> None:
        super().__init__()
        self.table: Tensor
        self.register_buffer("table", sinusoids(max_seq_len, d_model, order), persistent=False)

    def forward(self, position: Int[Tensor, "*tokens"]) -> Float[Tensor, "*tokens d_model"]:
        return self.table[position]
