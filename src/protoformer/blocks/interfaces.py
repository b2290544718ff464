"""Interfaces of layers, as protocols: what a stack calls on them. Any module with these members fits, without inheritance."""

from typing import Protocol

from torch import Tensor, nn

from protoformer.blocks.kernels.cache import Cache, KeyValueCache
from protoformer.blocks.kernels.packing import Layout


class EncoderLayerInterface(Protocol):
    """What `EncoderStack` calls on a layer; shapes as of `EncoderLayer.forward`."""

    def __call__(self, x: Tensor, layout: Layout, need_weights: bool = False) -> tuple[Tensor, Tensor | None]:
        """The layer's output, and its attention weights or None."""


class DecoderLayerInterface(Protocol):
    """What `DecoderStack` calls on a layer; shapes as of `DecoderLayer.forward`."""

    cross_attention: nn.Module | None

    def init_cache(self, batch: int, max_len: int, like: Tensor) -> Cache:
        """An empty cache for `max_len` positions, of the dtype and on the device of `like`."""

    def init_cross_cache(self, batch: int, memory_len: int, like: Tensor) -> KeyValueCache | None:
        """An empty cache for a memory of `memory_len` positions; None without cross-attention."""

    def __call__(
        self,
        x: Tensor,
        layout: Layout,
        memory: Tensor | None = None,
        memory_layout: Layout | None = None,
        cache: Cache | None = None,
        cross_cache: KeyValueCache | None = None,
        need_weights: bool = False,
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """The layer's output, and its attention weights over the sequence and over the memory, or None."""


class DecodeStepLayer(Protocol):
    """A decoder layer whose `supports_fast_decode` is True."""

    def decode_step(self, x: Tensor, positions: Tensor, cache: Cache, allowed: Tensor | None) -> Tensor:
        """The layer's output for one new token a sequence, `(batch, d_model)`."""


class DecodeStepFeedForward(Protocol):
    """A feed-forward sublayer whose `supports_fast_decode` is True."""

    def decode_step(self, x: Tensor) -> Tensor:
        """The sublayer's output for one new token a sequence, `(batch, d_model)`."""
