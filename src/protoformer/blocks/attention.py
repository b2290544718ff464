"""Multi-head attention (arXiv 1706.03762, sections 3.2.1 and 3.2.2, equation 1).

Attention(Q, K, V) = softmax(Q K^T / sqrt(d_key)) V, in `n_heads` heads side by side. One class serves the encoder
(padding mask), the decoder (sequence mask, key/value cache), the locally banded layers of GPT-3 and the attention from
decoder to encoder. Dropout falls on the weights (the paper's code; BERT's `attention_probs_dropout_prob`).

Differs: self-attention projects queries, keys and values by one fused matrix, attention from decoder to encoder keys and
values. The map is the same, and so is its start: `init.transformer` fills each part as a matrix by itself.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from protoformer.blocks import masks
from protoformer.blocks.kernels.cache import KeyValueCache
from protoformer.blocks.kernels.packed_attention import attend_packed
from protoformer.blocks.kernels.packing import Layout, PackedLayout


class MultiHeadAttention(nn.Module):
    """Self-attention, or with `cross=True` attention from one sequence to another.

    `causal` and `window` are the layer's own pattern: a causal layer sees no later position, a causal layer with window w
    the last w positions (itself among them), a layer with a window alone that many neighbours to either side. Attention
    to another sequence has no such pattern: ValueError. `d_head` is how wide values are, and queries and keys as well
    where `d_key` is not given (the paper's d_v and d_k).
    """

    def __init__(
        self,
        d_model: int,
        n_heads: int,
        *,
        d_head: int | None = None,
        d_key: int | None = None,
        dropout: float = 0.0,
        causal: bool = False,
        window: int | None = None,
        cross: bool = False,
    ) -> None:
        super().__init__()
        if d_head is None and d_model % n_heads:
            raise ValueError(f"d_model {d_model} does not divide into {n_heads} heads; give d_head")
        if cross and causal:
            raise ValueError("causal: attention to another sequence (cross) has no order of its own to keep to")
        if cross and window is not None:
            raise ValueError(f"window {window}: attention to another sequence (cross) has no neighbourhood")
        self.n_heads, self.d_head = n_heads, d_model // n_heads if d_head is None else d_head
        self.d_key = self.d_head if d_key is None else d_key
        self.dropout, self.causal, self.window, self.cross = dropout, causal, window, cross
        if cross:
            self.query = nn.Linear(d_model, n_heads * self.d_key)
            self.key_value = nn.Linear(d_model, sum(self.parts))
        else:
            self.qkv = nn.Linear(d_model, sum(self.parts))
        self.output = nn.Linear(n_heads * self.d_head, d_model)

    @property
    def fused(self) -> nn.Linear:
        """The map whose matrix is several, one below the other."""
        return self.key_value if self.cross else self.qkv

    @property
    def parts(self) -> list[int]:
        """Of the fused map how many rows are of queries (if not `cross`), of keys and of values."""
        widths = (self.d_key, self.d_head) if self.cross else (self.d_key, self.d_key, self.d_head)
        return [self.n_heads * width for width in widths]

    def forward(
        self,
        x: Float[Tensor, "*tokens d_model"],
        layout: Layout,
        memory: Float[Tensor, "*sources d_model"] | None = None,
        memory_layout: Layout | None = None,
        cache: KeyValueCache | None = None,
        weights: list[Tensor] | None = None,
    ) -> Float[Tensor, "*tokens d_model"]:
        """`weights`, where given, gets this call's attention weights, `batch heads queries keys`, appended.

        `memory` comes with its own `memory_layout`, and to cross-attention alone: else ValueError.
        """
        if memory is not None and not self.cross:
            raise ValueError("memory: self-attention takes none; build with cross=True")
        if memory is not None and memory_layout is None:
            raise ValueError("memory_layout: memory needs its own layout; the queries' padding is not the memory's")
        q, k, v = self._project(x, memory, cache)
        keys = memory_layout if self.cross and memory_layout is not None else layout
        dropout = self.dropout if self.training else 0.0
        if isinstance(layout, PackedLayout) and isinstance(keys, PackedLayout) and cache is None and weights is None:
            mixed = attend_packed(q, k, v, layout, keys, causal=self.causal, window=self.window, dropout=dropout)
            return self.output(mixed.flatten(-2))
        rectangle = self._attend(q, k, v, layout, keys, cache, dropout, weights)
        return self.output(layout.pack(rectangle.transpose(1, 2).flatten(-2)))

    def cache(self, batch: int, max_len: int, like: Tensor) -> KeyValueCache:
        """Room for the keys and values of `max_len` positions, of the type of `like` and where it lies."""
        widths = (self.d_key, self.d_head)
        return KeyValueCache(batch, self.n_heads, max_len, widths, dtype=like.dtype, device=like.device)

    def _project(self, x: Tensor, memory: Tensor | None, cache: KeyValueCache | None) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, `*tokens heads d_key` and `d_head`; a filled cross cache needs none of the last two."""
        if not self.cross:
            q, k, v = (part.unflatten(-1, (self.n_heads, -1)) for part in self.qkv(x).split(self.parts, -1))
            return q, k, v
        q = self.query(x).unflatten(-1, (self.n_heads, -1))
        if cache is not None and cache.length:
            return q, q, q
        if memory is None:
            raise ValueError("attention over another sequence needs that sequence (memory) or a filled cache")
        k, v = (part.unflatten(-1, (self.n_heads, -1)) for part in self.key_value(memory).split(self.parts, -1))
        return q, k, v

    def _attend(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        layout: Layout,
        keys: Layout,
        cache: KeyValueCache | None,
        dropout: float,
        weights: list[Tensor] | None,
    ) -> Float[Tensor, "batch heads queries d_head"]:
        """On the rectangle: the library's fused kernel, or the formula itself where the weights are asked for."""
        q = layout.unpack(q).transpose(1, 2)
        padding_mask = keys.padding_mask
        if self.cross and cache is not None and cache.length:
            k, v, padding_mask = *cache.kv(), cache.padding_mask
        else:
            k, v = keys.unpack(k).transpose(1, 2), keys.unpack(v).transpose(1, 2)
            if cache is not None:
                k, v = cache.update(k, v, padding_mask)
                padding_mask = cache.padding_mask
        queries, known = q.shape[2], k.shape[2]
        if weights is None and padding_mask is None and self.causal and self.window is None and queries == known:
            return functional.scaled_dot_product_attention(q, k, v, is_causal=True, dropout_p=dropout)
        allowed = masks.pattern(queries, known, self.causal, self.window, q.device)
        if padding_mask is not None:
            real = masks.padding(padding_mask)
            allowed = real if allowed is None else allowed & real
        if weights is None:
            return functional.scaled_dot_product_attention(q, k, v, attn_mask=allowed, dropout_p=dropout)
        scores = q @ k.transpose(-2, -1) * self.d_key**-0.5
        if allowed is None:
            share = scores.softmax(-1)
        else:  # finite, then zero: a query that may see nothing gives zeros, and zero gradients
            share = scores.masked_fill(~allowed, torch.finfo(scores.dtype).min).softmax(-1).masked_fill(~allowed, 0.0)
        weights.append(share.detach())
        return functional.dropout(share, dropout) @ v
