"""Dropout (Srivastava et al. 2014), with masks that are cheap to draw on the CPU.

Differs: on the CPU four decisions are cut out of each 64 random bits, so the rate p is kept to the nearest 1/65,536
(0.1 becomes 0.100006, and the kept values are scaled by exactly that). Drawing a mask this way took 2.7 ms where
torch.nn.functional.dropout took 9.0 (1,680 x 384 values, two threads); on other devices torch's own kernel runs.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from protoformer.blocks.kernels.planned import kernels_of

LEVELS = 1 << 16  # of a 16-bit random integer


def keep_mask(like: Float[Tensor, "*shape"], p: float) -> Float[Tensor, "*shape"]:
    """0 with probability p, else 1 / (1 - p), so that a product with it keeps the mean. CPU only."""
    return _random_signs(like, p).ge_(0.0).mul_(dropout_scale(p)).to(like.dtype)


def sign_encode_dropped(x: Float[Tensor, "*shape"], p: float) -> Float[Tensor, "*shape"]:
    """Negate each value of the non-negative `x` with probability p, in place, and return the kept values (0 if dropped).

    The sign is the dropout mask, at no cost in memory. The returned values times `dropout_scale(p)` keep the mean. CPU only.
    """
    signs = _random_signs(x, p).to(x.dtype)
    # x keeps its size and takes the sign: what is dropped is -x, and still readable for backward
    x.copysign_(signs)
    # max(x, 0) into the memory of the signs
    return torch.clamp_min(x, 0.0, out=signs)


def dropout_scale(p: float) -> float:
    """The factor of kept values, 1 / (1 - p), for the p that is really drawn."""
    return LEVELS / (LEVELS - round(p * LEVELS))


def _random_signs(like: Float[Tensor, "*shape"], p: float) -> Float[Tensor, "*shape"]:
    """Numbers below 0 with probability p, in float32 or wider."""
    # one call of the generator for four values
    bits = torch.empty((like.numel() + 3) // 4, dtype=torch.int64, device=like.device).random_(-(2**63), None)
    # each int64 read as four int16, uniform on [-2^15, 2^15); shifted so that a fraction p is negative
    lanes = bits.view(torch.int16)[: like.numel()].view(like.shape)
    return lanes.to(torch.promote_types(like.dtype, torch.float32)).add_(LEVELS // 2 - round(p * LEVELS))


class Dropout(nn.Module):
    """Zeroes each value with probability `p` while training and scales the rest by 1 / (1 - p)."""

    def __init__(self, p: float = 0.0) -> None:
        super().__init__()
        if not 0.0 <= p < 1.0:
            raise ValueError(f"dropout {p}: must be at least 0 and below 1")
        self.p = p

    def forward(self, x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        if not self.training or self.p == 0.0:
            return x
        if kernels_of(x) != "cpu" or torch.compiler.is_compiling():
            return functional.dropout(x, self.p)
        return x * keep_mask(x, self.p)

    def add(self, x: Float[Tensor, "*shape"], sublayer: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """x + Dropout(sublayer), with one temporary tensor less."""
        on_cpu = kernels_of(x) == "cpu" and not torch.compiler.is_compiling()
        if not on_cpu or not self.training or self.p == 0.0 or x.dtype != sublayer.dtype:
            return x + self(sublayer)
        # the product is a fresh tensor, so x may be added in place
        return (sublayer * keep_mask(sublayer, self.p)).add_(x)
