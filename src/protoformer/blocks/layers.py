"""Encoder and decoder layers (arXiv 1706.03762, section 3.1, figure 1).

`norm="post"` is the paper's: LayerNorm(x + Dropout(Sublayer(x))). `norm="pre"` is GPT-2's:
x + Dropout(Sublayer(LayerNorm(x))), which needs one more normalisation at the end of the stack.
"""

from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn

from protoformer.blocks.attention import MultiHeadAttention
from protoformer.blocks.kernels.cache import KeyValueCache
from protoformer.blocks.kernels.dropout import Dropout
from protoformer.blocks.kernels.packing import Layout

Norm = Literal["pre", "post"]


class EncoderLayer(nn.Module):
    """Self-attention, then feed-forward, each with its residual and normalisation."""

    def __init__(
        self,
        attention: MultiHeadAttention,
        feed_forward: nn.Module,
        *,
        d_model: int,
        norm: Norm = "post",
        norm_eps: float = 1e-5,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if norm not in ("pre", "post"):
            raise ValueError(f"norm {norm!r}: pre or post")
        self.norm = norm
        self.attention = attention
        self.attention_norm = nn.LayerNorm(d_model, eps=norm_eps)
        self.feed_forward = feed_forward
        self.feed_forward_norm = nn.LayerNorm(d_model, eps=norm_eps)
        self.dropout = Dropout(dropout)

    def forward(
        self,
        x: Float[Tensor, "*tokens d_model"],
        layout: Layout,
        cache: KeyValueCache | None = None,
        weights: list[Tensor] | None = None,
    ) -> Float[Tensor, "*tokens d_model"]:
        """`weights`, where given, is appended to: this layer's attention weights, `batch heads queries keys`."""
        if self.norm == "post":
            x = self.attention_norm(self.dropout.add(x, self.attention(x, layout, cache=cache, weights=weights)))
            return self.feed_forward_norm(self.dropout.add(x, self.feed_forward(x)))
        x = self.dropout.add(x, self.attention(self.attention_norm(x), layout, cache=cache, weights=weights))
        return self.dropout.add(x, self.feed_forward(self.feed_forward_norm(x)))


class DecoderLayer(nn.Module):
    """Masked self-attention, attention over the encoder's output, feed-forward.

    Without `cross_attention` it is the layer of a decoder-only model (GPT).
    """

    def __init__(
        self,
        attention: MultiHeadAttention,
        cross_attention: MultiHeadAttention | None,
        feed_forward: nn.Module,
        *,
        d_model: int,
        norm: Norm = "post",
        norm_eps: float = 1e-5,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if norm not in ("pre", "post"):
            raise ValueError(f"norm {norm!r}: pre or post")
        self.norm = norm
        self.attention = attention
        self.attention_norm = nn.LayerNorm(d_model, eps=norm_eps)
        self.cross_attention = cross_attention
        self.cross_attention_norm = None if cross_attention is None else nn.LayerNorm(d_model, eps=norm_eps)
        self.feed_forward = feed_forward
        self.feed_forward_norm = nn.LayerNorm(d_model, eps=norm_eps)
        self.dropout = Dropout(dropout)

    def cache(self, batch: int, max_len: int, like: Tensor) -> KeyValueCache:
        return self.attention.cache(batch, max_len, like)

    def cross_cache(self, batch: int, sources: int, like: Tensor) -> KeyValueCache | None:
        return None if self.cross_attention is None else self.cross_attention.cache(batch, sources, like)

    def forward(
        self,
        x: Float[Tensor, "*tokens d_model"],
        layout: Layout,
        memory: Float[Tensor, "*sources d_model"] | None = None,
        memory_layout: Layout | None = None,
        cache: KeyValueCache | None = None,
        cross_cache: KeyValueCache | None = None,
        weights: list[Tensor] | None = None,
        cross_weights: list[Tensor] | None = None,
    ) -> Float[Tensor, "*tokens d_model"]:
        """`weights` and `cross_weights`, where given, are appended to: the attention weights over the sequence itself and
        over the memory, `batch heads queries keys` each.
        """
        post = self.norm == "post"
        h = self.attention(x if post else self.attention_norm(x), layout, cache=cache, weights=weights)
        x = self.dropout.add(x, h)
        x = self.attention_norm(x) if post else x
        if self.cross_attention is not None and self.cross_attention_norm is not None:
            h = self.cross_attention(
                x if post else self.cross_attention_norm(x), layout, memory, memory_layout, cross_cache, cross_weights
            )
            x = self.dropout.add(x, h)
            x = self.cross_attention_norm(x) if post else x
        h = self.feed_forward(x if post else self.feed_forward_norm(x))
        x = self.dropout.add(x, h)
        return self.feed_forward_norm(x) if post else x
