"""Stacks of layers (arXiv 1706.03762, section 3.1). A pre-norm stack ends with one more normalisation.

A stack takes any layers with the members of `interfaces`, such as those of `baselines`.
"""

from collections.abc import Collection, Sequence
from typing import Any, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from protoformer.blocks.interfaces import DecoderLayerInterface, DecodeStepLayer, EncoderLayerInterface
from protoformer.blocks.kernels.cache import Cache, KeyValueCache
from protoformer.blocks.kernels.fast_decode import defines_decode_step
from protoformer.blocks.kernels.packing import HiddenStates, Layout


def recompute_activations(module: nn.Module) -> None:
    """Let the stacks in a module keep each layer's input alone for the backward pass, which computes the layer again (gradient
    checkpointing, arXiv 1604.06174). Random states are restored, so results are the same to the bit, dropout included."""
    for stack in module.modules():
        if isinstance(stack, EncoderStack | DecoderStack):
            stack.recomputes = True


def _run(layer: nn.Module, recomputes: bool, *inputs: Any, **more: Any) -> Any:
    if recomputes and torch.is_grad_enabled():
        return checkpoint(layer, *inputs, use_reentrant=False, **more)
    return layer(*inputs, **more)


def layers_of(module: nn.Module) -> list[nn.Module]:
    """The layers of all stacks in a module, in order."""
    stacks = [each for each in module.modules() if isinstance(each, EncoderStack | DecoderStack)]
    return [cast(nn.Module, layer) for stack in stacks for layer in stack.layers]


class EncoderStack(nn.Module):
    """Encoder layers one after another."""

    def __init__(self, layers: Sequence[nn.Module], final_norm: nn.Module | None = None) -> None:
        super().__init__()
        # a ModuleList; torch types its elements as plain modules
        self.layers = cast(Sequence[EncoderLayerInterface], nn.ModuleList(layers))
        self.final_norm = final_norm
        self.recomputes = False  # see `recompute_activations`

    def forward(
        self, x: Float[Tensor, "*tokens d_model"], layout: Layout, attn_layers: Collection[int] = ()
    ) -> HiddenStates:
        """Hidden states, with the attention weights of the layers whose indices are in `attn_layers`.

        Only those layers are computed without the fused kernel.
        """
        # by layer index; (batch, heads, seq, seq) each
        attn_weights: dict[int, Tensor] = {}
        for index, layer in enumerate(self.layers):
            # layers without attention return None
            x, weights = _run(cast(nn.Module, layer), self.recomputes, x, layout, need_weights=index in attn_layers)
            if weights is not None:
                attn_weights[index] = weights
        # pre-norm: the sum of all sublayers is still to be normalised
        return HiddenStates(x if self.final_norm is None else self.final_norm(x), layout, attn_weights, {})


class DecoderStack(nn.Module):
    """Decoder layers one after another, with one cache a layer for decoding."""

    def __init__(self, layers: Sequence[nn.Module], final_norm: nn.Module | None = None) -> None:
        super().__init__()
        self.layers = cast(Sequence[DecoderLayerInterface], nn.ModuleList(layers))
        self.final_norm = final_norm
        self.recomputes = False  # see `recompute_activations`

    def init_caches(self, batch: int, max_len: int, like: Tensor) -> list[Cache]:
        """One empty cache a layer for `max_len` positions, of the dtype and on the device of `like`."""
        return [layer.init_cache(batch, max_len, like) for layer in self.layers]

    def init_cross_caches(self, batch: int, memory_len: int, like: Tensor) -> list[KeyValueCache]:
        """One empty cache for each layer with cross-attention, for a memory of `memory_len` positions."""
        caches = [layer.init_cross_cache(batch, memory_len, like) for layer in self.layers]
        return [cache for cache in caches if cache is not None]

    def forward(
        self,
        x: Float[Tensor, "*tokens d_model"],
        layout: Layout,
        memory: Float[Tensor, "*sources d_model"] | None = None,
        memory_layout: Layout | None = None,
        caches: Sequence[Cache] | None = None,
        cross_caches: Sequence[KeyValueCache] | None = None,
        attn_layers: Collection[int] = (),
    ) -> HiddenStates:
        """Hidden states, with the attention weights of the layers whose indices are in `attn_layers`, over the sequence
        itself and over the memory. Only those layers are computed without the fused kernel.
        """
        attn_weights: dict[int, Tensor] = {}
        cross_attn_weights: dict[int, Tensor] = {}
        next_cross_cache = iter(cross_caches or ())  # only layers with cross-attention have one
        for index, layer in enumerate(self.layers):
            # memory may be None after the first step: the cross caches hold its keys and values
            x, weights, cross_weights = _run(
                cast(nn.Module, layer),
                self.recomputes,
                x,
                layout,
                memory,
                memory_layout,
                cache=None if caches is None else caches[index],
                cross_cache=None if layer.cross_attention is None else next(next_cross_cache, None),
                need_weights=index in attn_layers,
            )
            if weights is not None:
                attn_weights[index] = weights
            if cross_weights is not None:
                cross_attn_weights[index] = cross_weights
        # pre-norm, as in the encoder
        x = x if self.final_norm is None else self.final_norm(x)
        return HiddenStates(x, layout, attn_weights, cross_attn_weights)

    def supports_fast_decode(self, device: torch.device) -> bool:
        """Whether `decode_step` can replace `forward`: every layer supports it, and dropout, gradients and autocast, which it
        leaves out, are off."""
        # autocast would cast weights in every step; an autograd graph would hold keys that the cache has overwritten
        unsupported_mode = self.training or torch.is_grad_enabled() or torch.is_autocast_enabled(device.type)
        return (
            not unsupported_mode
            and defines_decode_step(self)
            and all(getattr(layer, "supports_fast_decode", False) for layer in self.layers)
        )

    def decode_step(
        self, x: Float[Tensor, "batch d_model"], positions: Int[Tensor, "batch"], caches: Sequence[Cache]
    ) -> Float[Tensor, "batch d_model"]:
        """Hidden states of one new token a sequence, at these positions; its keys and values are added to the caches.

        Raises IndexError when they are full.
        """
        padding_mask = caches[0].padding_mask  # the same in every layer; the new token is real
        allowed = None if padding_mask is None else functional.pad(padding_mask, (0, 1), value=True)
        layers = cast(Sequence[DecodeStepLayer], self.layers)
        for layer, cache in zip(layers, caches, strict=True):
            # (batch, d_model): no axis of positions, since there is only one
            x = layer.decode_step(x, positions, cache, allowed)
        return x if self.final_norm is None else self.final_norm(x)
