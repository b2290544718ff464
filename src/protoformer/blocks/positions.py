"""Position information: learned vectors, sinusoids (arXiv 1706.03762, section 3.5), or rotations of queries and keys (RoFormer,
arXiv 2104.09864)."""

from typing import Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

Positions = Literal["learned", "sinusoidal", "rotary"]
SinusoidOrder = Literal["interleaved", "halves"]


def sinusoids(
    max_seq_len: int, d_model: int, order: SinusoidOrder = "interleaved"
) -> Float[Tensor, "max_seq_len d_model"]:
    """PE(pos, 2i) = sin(pos / 10000^(2i/d_model)), PE(pos, 2i+1) = cos of the same angle.

    `interleaved` is the paper's formula; `halves` puts all sines first, as the paper's own code did.
    """
    # float64, since float32 has lost the fraction of a large angle before the sine is taken
    angle = torch.arange(max_seq_len, dtype=torch.float64)[:, None] / 10000 ** (
        torch.arange(0, d_model, 2, dtype=torch.float64) / d_model
    )
    # an odd d_model has one sine more than cosines
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
    """Fixed sinusoids; no parameters, nothing in checkpoints."""

    def __init__(self, max_seq_len: int, d_model: int, order: SinusoidOrder = "interleaved") -> None:
        super().__init__()
        self.table: Tensor
        # not persistent: computed anew, so that no checkpoint holds it
        self.register_buffer("table", sinusoids(max_seq_len, d_model, order), persistent=False)

    def forward(self, position: Int[Tensor, "*tokens"]) -> Float[Tensor, "*tokens d_model"]:
        return self.table[position]


class RotaryPositions(nn.Module):
    """Rotation of queries and keys by angles that grow with the position (RoFormer, section 3.2.2, equation 34).

    The pair (x_i, x_{i + d/2}) of a head's d dimensions is turned by m / 10000^(2i/d) at position m, the angles of the 2017
    sinusoids. A query at m and a key at n are turned by m - n against each other, so scores depend on that distance alone.
    No parameters, nothing in checkpoints. Raises ValueError for an odd width.

    Differs: the paper pairs neighbours, (x_2i, x_2i+1); GPT-NeoX and Llama pair halves as here. The one is the other with the
    rows of the query and key projections permuted.
    """

    def __init__(self, max_seq_len: int, d_key: int) -> None:
        super().__init__()
        if d_key % 2:
            raise ValueError(f"rotary positions rotate pairs of dimensions; d_key={d_key} is odd")
        self.sine_cosine: Tensor
        self.register_buffer("sine_cosine", sinusoids(max_seq_len, d_key, "halves"), persistent=False)

    def forward(
        self, x: Float[Tensor, "*tokens heads d_key"], position: Int[Tensor, "*#tokens"]
    ) -> Float[Tensor, "*tokens heads d_key"]:
        sine, cosine = self.sine_cosine[position][..., None, :].chunk(2, -1)  # (*tokens, 1, d_key / 2): for all heads
        # (a + ib) e^(i angle) = (a cos - b sin) + i (b cos + a sin)
        first, second = x.chunk(2, -1)
        rotated = torch.cat([first * cosine - second * sine, second * cosine + first * sine], -1)
        return rotated.to(x.dtype)  # under autocast x is of half precision, the table is not


def absolute_position_embedding(
    positions: Positions, max_seq_len: int, d_model: int, order: SinusoidOrder = "interleaved"
) -> nn.Module | None:
    """The position embedding that is added to token embeddings: learned, sinusoidal, or None with rotary positions.

    Raises ValueError for another name.
    """
    if positions not in get_args(Positions):
        raise ValueError(f"positions {positions!r}: one of {', '.join(get_args(Positions))}")
    if positions == "learned":
        return LearnedPositions(max_seq_len, d_model)
    return SinusoidalPositions(max_seq_len, d_model, order) if positions == "sinusoidal" else None
