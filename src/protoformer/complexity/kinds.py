"""The rows of Table 1 (arXiv 1706.03762, section 4): the paper's formulas, and a layer of each kind.

The paper has no row for the two parts of a convolution and says of them in the text: separable convolutions cost
k n d + n d^2, and dilated ones shorten the longest path from n/k to log_k n. A neighbourhood of r is r positions in all: to
either side, or for a causal layer the last r.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor, nn

from protoformer.blocks.attention import MultiHeadAttention
from protoformer.blocks.baselines.convolution import Convolution
from protoformer.blocks.baselines.recurrent import UnidirectionalRNN
from protoformer.blocks.kernels.packing import Layout

D_HEAD = 64


class Sizes(NamedTuple):
    """Of a layer: positions, width, a convolution's kernel, the neighbourhood of restricted attention."""

    n: int
    d: int
    k: int = 3
    r: int = 33


class Separable(nn.Module):
    """A depthwise convolution, then a map of each position."""

    def __init__(self, d: int, k: int, causal: bool) -> None:
        super().__init__()
        self.depthwise = Convolution(d, d, k, causal=causal, depthwise=True)
        self.pointwise = nn.Linear(d, d)

    def forward(self, x: Float[Tensor, "*tokens d"], layout: Layout) -> Float[Tensor, "*tokens d"]:
        return self.pointwise(self.depthwise(x, layout))


@dataclass(frozen=True)
class Kind:
    """A row: its formulas in words and as functions of the sizes, and how to make its layers.

    `layer(sizes, number, causal)` is called as layer(x, layout); `number` counts a stack's layers from 0. `projections` are the
    FLOPs, forward, of maps of each position by itself that the paper's formula leaves out.
    """

    name: str
    complexity: str
    sequential: str
    path: str
    operations: Callable[[Sizes], float]
    steps: Callable[[Sizes], int]
    longest: Callable[[Sizes], float]
    projections: Callable[[Sizes], int]
    layer: Callable[[Sizes, int, bool], nn.Module]


class SelfAttention(nn.Module):
    """Multi-head attention, of which the output alone is returned."""

    def __init__(self, d: int, causal: bool, window: int | None = None) -> None:
        super().__init__()
        self.attention = MultiHeadAttention(d, max(1, d // D_HEAD), causal=causal, window=window)

    def forward(self, x: Float[Tensor, "*tokens d"], layout: Layout) -> Float[Tensor, "*tokens d"]:
        return self.attention(x, layout)[0]


KINDS = (
    Kind(
        "self-attention", "n^2 d", "1", "1",
        lambda s: s.n**2 * s.d, lambda s: 1, lambda s: 1,
        lambda s: 8 * s.n * s.d**2,
        lambda s, number, causal: SelfAttention(s.d, causal),
    ),
    Kind(
        "recurrent (LSTM)", "n d^2", "n", "n",
        lambda s: s.n * s.d**2, lambda s: s.n, lambda s: s.n,
        lambda s: 8 * s.n * s.d**2,
        lambda s, number, causal: UnidirectionalRNN(s.d),
    ),
    Kind(
        "convolutional", "k n d^2", "1", "n/k",
        lambda s: s.k * s.n * s.d**2, lambda s: 1, lambda s: s.n / s.k,
        lambda s: 0,
        lambda s, number, causal: Convolution(s.d, s.d, s.k, causal=causal),
    ),
    Kind(
        "convolutional, dilated", "k n d^2", "1", "log_k n",
        lambda s: s.k * s.n * s.d**2, lambda s: 1, lambda s: math.log(s.n, s.k),
        lambda s: 0,
        lambda s, number, causal: Convolution(s.d, s.d, s.k, dilation=s.k**number, causal=causal),
    ),
    Kind(
        "convolutional, separable", "k n d + n d^2", "1", "n/k",
        lambda s: s.k * s.n * s.d + s.n * s.d**2, lambda s: 1, lambda s: s.n / s.k,
        lambda s: 0,
        lambda s, number, causal: Separable(s.d, s.k, causal),
    ),
    Kind(
        "self-attention, restricted", "r n d", "1", "n/r",
        lambda s: min(s.r, s.n) * s.n * s.d, lambda s: 1, lambda s: max(1.0, s.n / s.r),
        lambda s: 8 * s.n * s.d**2,
        lambda s, number, causal: SelfAttention(s.d, causal, s.r if causal else s.r // 2),
    ),
)  # fmt: skip
ATTENTION, RECURRENT = KINDS[0], KINDS[1]
