"""Encoder and decoder layers (arXiv 1706.03762, section 3.1, figure 1).

`norm="post"` is the paper's: LayerNorm(x + Dropout(Sublayer(x))). `norm="pre"` is GPT-2's:
x + Dropout(Sublayer(LayerNorm(x))), which needs one more normalisation at the end of the stack.
"""

from typing import Literal, cast

from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from protoformer.blocks.attention import MultiHeadAttention
from protoformer.blocks.interfaces import DecodeStepFeedForward
from protoformer.blocks.kernels.cache import KeyValueCache
from protoformer.blocks.kernels.dropout import Dropout
from protoformer.blocks.kernels.fast_decode import apply_norm, defines_decode_step
from protoformer.blocks.kernels.packing import Layout

Norm = Literal["pre", "post"]


class EncoderLayer(nn.Module):
    """Self-attention, then feed-forward, each with its residual connection and normalisation."""

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
        # each sublayer has one norm, on its output (post) or on its input (pre)
        self.attention_norm = nn.LayerNorm(d_model, eps=norm_eps)
        self.feed_forward = feed_forward
        # one module for both sublayers: dropout has no state
        self.feed_forward_norm = nn.LayerNorm(d_model, eps=norm_eps)
        self.dropout = Dropout(dropout)

    def forward(
        self, x: Float[Tensor, "*tokens d_model"], layout: Layout, need_weights: bool = False
    ) -> tuple[Float[Tensor, "*tokens d_model"], Float[Tensor, "batch heads seq seq"] | None]:
        """The layer's output, and with `need_weights` its attention weights."""
        add = self.dropout.add  # x + Dropout(sublayer)
        if self.norm == "post":
            # the residual sum is normalised: the next sublayer reads LayerNorm(x + sublayer(x))
            h, attn_weights = self.attention(x, layout, need_weights=need_weights)
            x = self.attention_norm(add(x, h))
            x = self.feed_forward_norm(add(x, self.feed_forward(x)))
        else:
            # the sublayer reads a normalised copy; the sum itself stays as it is from the first layer to the last
            h, attn_weights = self.attention(self.attention_norm(x), layout, need_weights=need_weights)
            x = add(x, h)
            x = add(x, self.feed_forward(self.feed_forward_norm(x)))
        return x, attn_weights


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
        # a decoder alone has two sublayers, and two norms
        self.cross_attention_norm = None if cross_attention is None else nn.LayerNorm(d_model, eps=norm_eps)
        self.feed_forward = feed_forward
        self.feed_forward_norm = nn.LayerNorm(d_model, eps=norm_eps)
        self.dropout = Dropout(dropout)

    def init_cache(self, batch: int, max_len: int, like: Tensor) -> KeyValueCache:
        """An empty cache of the self-attention."""
        return self.attention.init_cache(batch, max_len, like)

    def init_cross_cache(self, batch: int, memory_len: int, like: Tensor) -> KeyValueCache | None:
        """An empty cache of the cross-attention, for a memory of `memory_len` positions; None without cross-attention."""
        return None if self.cross_attention is None else self.cross_attention.init_cache(batch, memory_len, like)

    def forward(
        self,
        x: Float[Tensor, "*tokens d_model"],
        layout: Layout,
        memory: Float[Tensor, "*sources d_model"] | None = None,
        memory_layout: Layout | None = None,
        cache: KeyValueCache | None = None,
        cross_cache: KeyValueCache | None = None,
        need_weights: bool = False,
    ) -> tuple[
        Float[Tensor, "*tokens d_model"],
        Float[Tensor, "batch heads targets keys"] | None,
        Float[Tensor, "batch heads targets sources"] | None,
    ]:
        """The layer's output, and with `need_weights` its attention weights over the sequence and over the memory."""
        add = self.dropout.add  # x + Dropout(sublayer)
        # with a filled cross_cache all three sublayers run without the memory
        cross_inputs = (memory, memory_layout, cross_cache)
        cross_attn_weights = None
        if self.norm == "post":
            # each line: sublayer, residual sum, normalisation
            h, attn_weights = self.attention(x, layout, cache=cache, need_weights=need_weights)
            x = self.attention_norm(add(x, h))
            if self.cross_attention is not None and self.cross_attention_norm is not None:
                h, cross_attn_weights = self.cross_attention(x, layout, *cross_inputs, need_weights)
                x = self.cross_attention_norm(add(x, h))
            x = self.feed_forward_norm(add(x, self.feed_forward(x)))
        else:
            # each line: normalisation, sublayer, residual sum
            h, attn_weights = self.attention(self.attention_norm(x), layout, cache=cache, need_weights=need_weights)
            x = add(x, h)
            # queries from the decoder, keys and values from the encoder (section 3.2.3)
            if self.cross_attention is not None and self.cross_attention_norm is not None:
                h, cross_attn_weights = self.cross_attention(
                    self.cross_attention_norm(x), layout, *cross_inputs, need_weights
                )
                x = add(x, h)
            x = add(x, self.feed_forward(self.feed_forward_norm(x)))
        return x, attn_weights, cross_attn_weights

    @property
    def supports_fast_decode(self) -> bool:
        """Whether `decode_step` can replace `forward`: in a decoder-only layer, if both sublayers say so."""
        # a sublayer without this attribute, such as a user's own, does not support it
        sublayers = (self.attention, self.feed_forward)
        return (
            self.cross_attention is None
            and defines_decode_step(self)
            and all(getattr(sublayer, "supports_fast_decode", False) for sublayer in sublayers)
        )

    def decode_step(
        self,
        x: Float[Tensor, "batch d_model"],
        positions: Int[Tensor, "batch"],
        cache: KeyValueCache,
        allowed: Bool[Tensor, "batch keys"] | None,
    ) -> Float[Tensor, "batch d_model"]:
        """`forward` for one new token a sequence, without dropout and gradients (see `MultiHeadAttention.decode_step`)."""
        # the two branches of `forward` without dropout
        attention = self.attention.decode_step
        feed_forward = cast(DecodeStepFeedForward, self.feed_forward).decode_step
        if self.norm == "post":
            x = apply_norm(self.attention_norm, x + attention(x, positions, cache, allowed))
            return apply_norm(self.feed_forward_norm, x + feed_forward(x))
        x = x + attention(apply_norm(self.attention_norm, x), positions, cache, allowed)
        return x + feed_forward(apply_norm(self.feed_forward_norm, x))
