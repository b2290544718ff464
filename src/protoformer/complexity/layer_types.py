"""The layer types of Table 1 (arXiv 1706.03762, section 4): the paper's formulas, and a layer of each type.

Dilated and separable convolutions have no row in the paper's table; its text gives their costs (separable: k n d + n d^2) and
paths (dilated: log_k n instead of n/k). A neighbourhood of r has r positions: on both sides, or the last r of a causal layer.
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


class LayerSizes(NamedTuple):
    """Sizes of a layer: positions n, width d, a convolution's kernel k, the neighbourhood r of restricted attention."""

    n: int
    d: int
    k: int = 3
    r: int = 33


class SeparableConvolutionLayer(nn.Module):
    """A depthwise convolution, then a linear map of each position."""

    def __init__(self, d: int, k: int, causal: bool) -> None:
        super().__init__()
        self.depthwise = Convolution(d, d, k, causal=causal, depthwise=True)
        self.pointwise = nn.Linear(d, d)

    def forward(self, x: Float[Tensor, "*tokens d"], layout: Layout) -> Float[Tensor, "*tokens d"]:
        return self.pointwise(self.depthwise(x, layout))


@dataclass(frozen=True)
class LayerType:
    """A row of Table 1.

    `complexity`, `sequential` and `path` are its formulas as text; `operations`, `steps` and `path_length` are the same as
    functions of the sizes. `projections` are the forward FLOPs of linear maps of single positions, which the paper's formula
    leaves out. `layer(sizes, index, causal)` makes the layer at `index` (from 0) of a stack; it is called as layer(x, layout).
    """

    name: str
    complexity: str
    sequential: str
    path: str
    operations: Callable[[LayerSizes], float]
    steps: Callable[[LayerSizes], int]
    path_length: Callable[[LayerSizes], float]
    projections: Callable[[LayerSizes], int]
    layer: Callable[[LayerSizes, int, bool], nn.Module]


class SelfAttention(nn.Module):
    """Multi-head self-attention of which only the output is returned, not the weights."""

    def __init__(self, d: int, causal: bool, window: int | None = None) -> None:
        super().__init__()
        self.attention = MultiHeadAttention(d, max(1, d // D_HEAD), causal=causal, window=window)

    def forward(self, x: Float[Tensor, "*tokens d"], layout: Layout) -> Float[Tensor, "*tokens d"]:
        return self.attention(x, layout)[0]


LAYER_TYPES = (
    LayerType(
        "self-attention", "n^2 d", "1", "1",
        lambda s: s.n**2 * s.d, lambda s: 1, lambda s: 1,
        lambda s: 8 * s.n * s.d**2,
        lambda s, index, causal: SelfAttention(s.d, causal),
    ),
    LayerType(
        "recurrent (LSTM)", "n d^2", "n", "n",
        lambda s: s.n * s.d**2, lambda s: s.n, lambda s: s.n,
        lambda s: 8 * s.n * s.d**2,
        lambda s, index, causal: UnidirectionalRNN(s.d),
    ),
    LayerType(
        "convolutional", "k n d^2", "1", "n/k",
        lambda s: s.k * s.n * s.d**2, lambda s: 1, lambda s: s.n / s.k,
        lambda s: 0,
        lambda s, index, causal: Convolution(s.d, s.d, s.k, causal=causal),
    ),
    LayerType(
        "convolutional, dilated", "k n d^2", "1", "log_k n",
        lambda s: s.k * s.n * s.d**2, lambda s: 1, lambda s: math.log(s.n, s.k),
        lambda s: 0,
        lambda s, index, causal: Convolution(s.d, s.d, s.k, dilation=s.k**index, causal=causal),
    ),
    LayerType(
        "convolutional, separable", "k n d + n d^2", "1", "n/k",
        lambda s: s.k * s.n * s.d + s.n * s.d**2, lambda s: 1, lambda s: s.n / s.k,
        lambda s: 0,
        lambda s, index, causal: SeparableConvolutionLayer(s.d, s.k, causal),
    ),
    LayerType(
        "self-attention, restricted", "r n d", "1", "n/r",
        lambda s: min(s.r, s.n) * s.n * s.d, lambda s: 1, lambda s: max(1.0, s.n / s.r),
        lambda s: 8 * s.n * s.d**2,
        lambda s, index, causal: SelfAttention(s.d, causal, s.r if causal else s.r // 2),
    ),
)  # fmt: skip
ATTENTION, RECURRENT = LAYER_TYPES[0], LAYER_TYPES[1]
