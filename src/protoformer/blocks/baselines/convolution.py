"""Convolutional layers over each sequence of a batch: symmetric for an encoder, causal (padded on the left) for a decoder.

- gated: (GLU(conv(x)) + x) / sqrt(2) (ConvS2S, arXiv 1705.03122, sections 3.2 and 3.4; GLU: arXiv 1612.08083);
- dilated: a residual block that narrows to half the width, convolves there, and widens (ByteNet, arXiv 1610.10099, whose
  dilations double from layer to layer);
- separable: a depthwise convolution, then a linear layer at each position (Xception's, arXiv 1610.02357, as in SliceNet,
  arXiv 1706.03059).

Every sequence is surrounded by zeros, so that a padded batch equals single examples.
"""

from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from protoformer.blocks.baselines.source_attention import SourceAttention, StateCachedLayer
from protoformer.blocks.kernels.cache import KeyValueCache, StateCache
from protoformer.blocks.kernels.dropout import Dropout
from protoformer.blocks.kernels.packing import Layout, PackedLayout

ConvolutionKind = Literal["gated", "dilated", "separable"]
SQRT_HALF = 0.5**0.5  # keeps the variance of a sum of two (ConvS2S, section 3.4)


class Convolution(nn.Module):
    """torch.nn.Conv1d over each sequence: symmetric, or with `causal` over the position itself and those before it.

    `kernel` neighbours are `dilation` apart; with `depthwise` each channel depends on itself alone. Raises ValueError for an
    even kernel without `causal`.

    Differs: a convolution that mixes channels is one matrix product over concatenated neighbours, of real tokens alone.
    """

    def __init__(
        self, d_in: int, d_out: int, kernel: int, *, dilation: int = 1, causal: bool = False, depthwise: bool = False
    ) -> None:
        super().__init__()
        if kernel < 1 or (kernel % 2 == 0 and not causal):
            raise ValueError(f"kernel {kernel}: must be odd unless causal")
        if depthwise and d_in != d_out:
            raise ValueError(f"depthwise: d_out ({d_out}) must equal d_in ({d_in})")
        self.kernel, self.dilation, self.causal, self.depthwise = kernel, dilation, causal, depthwise
        self.map: nn.Module = (
            # depthwise: no channels to mix, so no matrix product to gain from
            nn.Conv1d(d_in, d_in, kernel, dilation=dilation, groups=d_in)
            if depthwise
            else nn.Linear(kernel * d_in, d_out)
        )

    @property
    def receptive_field(self) -> int:
        """Distance from the first neighbour to the last."""
        return (self.kernel - 1) * self.dilation

    def forward(
        self, x: Float[Tensor, "*tokens d_in"], layout: Layout, cache: StateCache | None = None
    ) -> Float[Tensor, "*tokens d_out"]:
        """`cache` holds the last `receptive_field` inputs and is updated. Raises ValueError for a cache without `causal`."""
        padded = layout.unpack(x)  # (batch, seq, d_in)
        if layout.padding_mask is not None and not isinstance(layout, PackedLayout):  # a packed one unpacks to zeros
            padded = padded * layout.padding_mask[:, :, None].to(padded.dtype)
        if cache is None:
            # causal: all of the zeros in front
            left = self.receptive_field if self.causal else self.receptive_field // 2
            padded = functional.pad(padded, (0, 0, left, self.receptive_field - left))
        else:
            padded = self._with_cached_inputs(padded, layout, cache)
        if self.depthwise:
            # Conv1d reads (batch, channels, seq)
            return layout.pack(self.map(padded.transpose(1, 2)).transpose(1, 2))
        # one shifted copy of the sequence for each tap of the kernel, side by side: (*tokens, kernel * d_in)
        taps = [padded[:, shift : shift + layout.seq] for shift in range(0, self.receptive_field + 1, self.dilation)]
        return self.map(torch.cat([layout.pack(tap) for tap in taps], dim=-1))

    def _with_cached_inputs(
        self, padded: Float[Tensor, "batch new d_in"], layout: Layout, cache: StateCache
    ) -> Float[Tensor, "batch cached_and_new d_in"]:
        """The new inputs behind the cached ones, the last of which go into the cache."""
        if not self.causal:
            raise ValueError("a cache needs a causal convolution; this one sees later positions")
        # at the start of a sequence: zeros, as the padding of an uncached call
        (previous,) = cache.state or (padded.new_zeros(len(padded), self.receptive_field, padded.shape[2]),)
        cache.advance(layout.seq, layout.padding_mask)
        inputs = torch.cat([previous, padded], dim=1)
        # the last inputs that the next token's kernel reaches back to
        cache.state = (inputs[:, inputs.shape[1] - self.receptive_field :],)
        return inputs


class GatedConvolution(nn.Module):
    """(GLU(conv(Dropout(x))) + x) / sqrt(2). Weights start as N(0, 4 (1 - dropout) / inputs) (ConvS2S, section 3.5).

    Differs: no weight normalisation.
    """

    def __init__(self, d_model: int, kernel: int, *, causal: bool = False, dropout: float = 0.0) -> None:
        super().__init__()
        self.convolution = Convolution(d_model, 2 * d_model, kernel, causal=causal)
        self.dropout = Dropout(dropout)
        assert isinstance(self.convolution.map, nn.Linear)
        # gates of about 1/2 quarter the variance, dropout divides it by 1 - p: 4 (1 - p) undoes both
        nn.init.normal_(self.convolution.map.weight, std=(4 * (1 - dropout) / (kernel * d_model)) ** 0.5)
        nn.init.zeros_(self.convolution.map.bias)

    def forward(
        self, x: Float[Tensor, "*tokens d_model"], layout: Layout, cache: StateCache | None = None
    ) -> Float[Tensor, "*tokens d_model"]:
        # GLU(a, b) = a sigmoid(b): the two halves of 2 d_model channels
        return (functional.glu(self.convolution(self.dropout(x), layout, cache), dim=-1) + x) * SQRT_HALF


class DilatedConvolution(nn.Module):
    """ByteNet's residual block with ReLU (its figure 3): x + f(x), where f is norm, ReLU, linear to half the width; norm, ReLU,
    dilated convolution; norm, ReLU, linear back.

    Differs: dropout on f(x), which the paper does not have.
    """

    def __init__(
        self, d_model: int, kernel: int, *, dilation: int = 1, causal: bool = False, dropout: float = 0.0
    ) -> None:
        super().__init__()
        if d_model % 2:
            raise ValueError(f"d_model={d_model}: must be even, since the block convolves at half the width")
        inner = d_model // 2
        # 1 x 1 convolutions are linear layers of each position
        self.narrow = nn.Sequential(nn.LayerNorm(d_model), nn.ReLU(), nn.Linear(d_model, inner))
        self.entry = nn.Sequential(nn.LayerNorm(inner), nn.ReLU())
        self.convolution = Convolution(inner, inner, kernel, dilation=dilation, causal=causal)
        self.widen = nn.Sequential(nn.LayerNorm(inner), nn.ReLU(), nn.Linear(inner, d_model))
        self.dropout = Dropout(dropout)

    def forward(
        self, x: Float[Tensor, "*tokens d_model"], layout: Layout, cache: StateCache | None = None
    ) -> Float[Tensor, "*tokens d_model"]:
        # half the width: a quarter of the multiplications
        inner = self.convolution(self.entry(self.narrow(x)), layout, cache)
        return x + self.dropout(self.widen(inner))


class SeparableConvolution(nn.Module):
    """SliceNet's ConvStep: x + Dropout(LayerNorm(SepConv(ReLU(x)))), SepConv a depthwise convolution, then a linear layer.

    Differs: each step has its residual connection; the paper's spans two steps or four.
    """

    def __init__(self, d_model: int, kernel: int, *, causal: bool = False, dropout: float = 0.0) -> None:
        super().__init__()
        self.convolution = Convolution(d_model, d_model, kernel, causal=causal, depthwise=True)
        self.pointwise = nn.Linear(d_model, d_model)
        self.norm = nn.LayerNorm(d_model)
        self.dropout = Dropout(dropout)

    def forward(
        self, x: Float[Tensor, "*tokens d_model"], layout: Layout, cache: StateCache | None = None
    ) -> Float[Tensor, "*tokens d_model"]:
        h = self.pointwise(self.convolution(functional.relu(x), layout, cache))
        return x + self.dropout(self.norm(h))


def build_convolution(
    kind: ConvolutionKind, d_model: int, kernel: int, *, dilation: int = 1, causal: bool = False, dropout: float = 0.0
) -> GatedConvolution | DilatedConvolution | SeparableConvolution:
    """A layer of this kind; only the dilated one uses `dilation`."""
    if kind not in get_args(ConvolutionKind):
        raise ValueError(f"kind {kind!r}: one of {', '.join(get_args(ConvolutionKind))}")
    # the other two look at direct neighbours
    if kind == "dilated":
        return DilatedConvolution(d_model, kernel, dilation=dilation, causal=causal, dropout=dropout)
    layer = GatedConvolution if kind == "gated" else SeparableConvolution
    return layer(d_model, kernel, causal=causal, dropout=dropout)


class ConvolutionEncoderLayer(nn.Module):
    """A symmetric convolution."""

    def __init__(self, convolution: nn.Module) -> None:
        super().__init__()
        self.convolution = convolution

    def forward(
        self, x: Float[Tensor, "*tokens d_model"], layout: Layout, need_weights: bool = False
    ) -> tuple[Float[Tensor, "*tokens d_model"], None]:
        """As `EncoderLayer.forward`; there are no attention weights."""
        return self.convolution(x, layout), None


class ConvolutionDecoderLayer(StateCachedLayer, nn.Module):
    """A causal convolution; with `cross_attention` every layer attends to the source (ConvS2S, section 3.3).

    The query is d = W h + b; the context, scaled by m sqrt(1/m) for m source tokens (section 3.4), is added to h.

    Differs: the embedding of the target is not added to d again, nor that of the source to the memory's vectors; residual
    connections carry both.
    """

    def __init__(self, convolution: nn.Module, d_model: int, cross_attention: SourceAttention | None = None) -> None:
        super().__init__()
        self.convolution, self.cross_attention = convolution, cross_attention
        self.query = nn.Linear(d_model, d_model) if cross_attention is not None else None
        self.context = nn.Linear(d_model, d_model) if cross_attention is not None else None

    def forward(
        self,
        x: Float[Tensor, "*tokens d_model"],
        layout: Layout,
        memory: Float[Tensor, "*sources d_model"] | None = None,
        memory_layout: Layout | None = None,
        cache: StateCache | None = None,
        cross_cache: KeyValueCache | None = None,
        need_weights: bool = False,
    ) -> tuple[Float[Tensor, "*tokens d_model"], None, Float[Tensor, "batch 1 targets sources"] | None]:
        """As `DecoderLayer.forward`; there are no attention weights over the sequence itself."""
        # residual connections are inside the convolution
        h = self.convolution(x, layout, cache)
        if self.cross_attention is None or self.query is None or self.context is None:
            return h, None, None
        source = self.cross_attention.project_source(memory, memory_layout, cross_cache)
        # (batch, targets, d_model)
        context, attn_weights = self.cross_attention(layout.unpack(self.query(h)), source)
        # m sqrt(1/m) = sqrt(m)
        if source.padding_mask is None:
            context = context * source.keys.shape[1] ** 0.5
        else:
            # m differs from sequence to sequence: its real tokens
            context = context * source.padding_mask.sum(1).to(context.dtype).sqrt()[:, None, None]
        out = (h + self.context(layout.pack(context))) * SQRT_HALF
        return out, None, attn_weights if need_weights else None
