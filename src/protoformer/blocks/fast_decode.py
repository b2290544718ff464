"""One token a row through a stack of decoder layers that keep keys and values: the maps of `DecoderStack.forward`, in as few
and as cheap operations as there are. For decoding alone: nothing is dropped out and no gradient is kept.

The weights are read once a step, whatever the number of rows, so at a few rows the time is that of reading them. Between
`FEWEST` and `MOST` rows the CPU's library is faster by W x^T than by x W^T: 76 ms against 98 ms at 16 rows, for the matrices
of GPT-2 small on one thread (benchmarks/results/decoding.md).
"""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from protoformer.blocks.attention import MultiHeadAttention
from protoformer.blocks.feed_forward import FeedForward, activated
from protoformer.blocks.kernels.cache import Cache, KeyValueCache
from protoformer.blocks.layers import DecoderLayer
from protoformer.blocks.stacks import DecoderStack

FEWEST, MOST = 5, 48  # rows between which W x^T is faster on the CPU


def can_step(stack: nn.Module, device: torch.device) -> bool:
    """Whether `step` knows every layer, and nothing that it leaves out (dropout, gradients, autocast) is wanted."""
    wanted = stack.training or torch.is_grad_enabled() or torch.is_autocast_enabled(device.type)
    return not wanted and isinstance(stack, DecoderStack) and all(map(_known, stack.layers))


def _known(layer: nn.Module) -> bool:
    return (
        type(layer) is DecoderLayer
        and layer.cross_attention is None
        and type(layer.attention) is MultiHeadAttention
        and layer.attention.causal
        and type(layer.feed_forward) is FeedForward
    )


def step(
    stack: DecoderStack, x: Float[Tensor, "rows d_model"], caches: Sequence[Cache]
) -> Float[Tensor, "rows d_model"]:
    """The hidden states of one more token a row, which the caches take up. Raises IndexError when they are full."""
    known = caches[0].padding_mask
    allowed = None if known is None else functional.pad(known, (0, 1), value=True)
    for layer, cache in zip(stack.layers, caches, strict=True):
        assert isinstance(layer, DecoderLayer)
        assert isinstance(cache, KeyValueCache)
        x = _layer(layer, x, cache, allowed)
    return x if stack.final_norm is None else stack.final_norm(x)


def _layer(layer: DecoderLayer, x: Tensor, cache: KeyValueCache, allowed: Bool[Tensor, "rows keys"] | None) -> Tensor:
    pre = layer.norm == "pre"
    h = _attend(layer.attention, normed(layer.attention_norm, x) if pre else x, cache, allowed)
    x = x + h if pre else normed(layer.attention_norm, x + h)
    ff = layer.feed_forward
    assert isinstance(ff, FeedForward)
    h = normed(layer.feed_forward_norm, x) if pre else x
    h = linear(activated(linear(h, ff.inner.weight, ff.inner.bias), ff.activation), ff.outer.weight, ff.outer.bias)
    return x + h if pre else normed(layer.feed_forward_norm, x + h)


def _attend(
    attention: MultiHeadAttention, x: Tensor, cache: KeyValueCache, allowed: Bool[Tensor, "rows keys"] | None
) -> Tensor:
    """The last position sees all that a layer's pattern allows: for a band a slice of the cache is as good as a mask."""
    rows = len(x)
    together = linear(x, attention.qkv.weight, attention.qkv.bias)
    # row by row in memory again: the fused kernel wants it
    parts = together.contiguous().split(attention.parts, 1)
    q, k, v = (part.view(rows, attention.n_heads, 1, -1) for part in parts)
    keys, values = cache.update(k, v)
    if attention.window is not None and keys.shape[2] > attention.window:
        keys, values = keys[:, :, -attention.window :], values[:, :, -attention.window :]
    mask = None if allowed is None else allowed[:, None, None, -keys.shape[2] :]
    mixed = functional.scaled_dot_product_attention(q, keys, values, attn_mask=mask)
    return linear(mixed.view(rows, -1), attention.output.weight, attention.output.bias)


def normed(norm: nn.LayerNorm, x: Float[Tensor, "rows d_model"]) -> Float[Tensor, "rows d_model"]:
    return functional.layer_norm(x, norm.normalized_shape, norm.weight, norm.bias, norm.eps)


def linear(
    x: Float[Tensor, "rows inner"], weight: Float[Tensor, "outer inner"], bias: Float[Tensor, "outer"] | None = None
) -> Float[Tensor, "rows outer"]:
    """x W^T + b by whichever product is the faster. What it gives may lie in memory column by column."""
    if not FEWEST <= len(x) <= MOST or x.device.type != "cpu" or x.dtype != torch.float32:
        return functional.linear(x, weight, bias)
    turned = weight @ x.t() if bias is None else torch.addmm(bias[:, None], weight, x.t())
    return turned.t()
