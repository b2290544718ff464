"""Multi-head attention (arXiv 1706.03762, sections 3.2.1 and 3.2.2, equation 1).

Attention(Q, K, V) = softmax(Q K^T / sqrt(d_key)) V, in `n_heads` heads side by side. One class serves the encoder (padding
mask), the decoder (causal mask, key/value cache), the locally banded layers of GPT-3 and the decoder's attention to the
encoder. Dropout is applied to the attention weights (the paper's code; BERT's `attention_probs_dropout_prob`).

Differs: self-attention projects queries, keys and values by one fused matrix, cross-attention keys and values. Outputs are the
same, and so is the distribution of initial weights: `init.transformer` fills each part as a matrix by itself.
"""

from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from protoformer.blocks import masks
from protoformer.blocks.kernels.cache import KeyValueCache
from protoformer.blocks.kernels.fast_decode import apply_linear, defines_decode_step
from protoformer.blocks.kernels.packed_attention import attend_packed
from protoformer.blocks.kernels.packing import Layout, PackedLayout
from protoformer.blocks.kernels.planned import fused_attention
from protoformer.blocks.kernels.tree_layout import TreeLayout
from protoformer.blocks.positions import RotaryPositions


def scaled_dot_product_attention(
    q: Float[Tensor, "batch heads queries d_key"],
    k: Float[Tensor, "batch heads keys d_key"],
    v: Float[Tensor, "batch heads keys d_head"],
    allowed: Bool[Tensor, "*#batch #queries keys"] | None = None,
    dropout: float = 0.0,
) -> tuple[Float[Tensor, "batch heads queries d_head"], Float[Tensor, "batch heads queries keys"]]:
    """Equation 1 as it is written, and its attention weights. The kernels below compute the same without keeping them."""
    scores = q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5  # Q K^T / sqrt(d_key)
    attn_weights = masks.masked_softmax(scores, allowed)
    # dropout zeroes whole connections; the weights that are returned are those before it
    return functional.dropout(attn_weights, dropout) @ v, attn_weights


class MultiHeadAttention(nn.Module):
    """Self-attention, or with `cross=True` attention from one sequence to another.

    `causal` and `window` are the layer's own mask: a causal layer sees no later position, a causal layer with window w only
    the last w positions (its own among them), a layer with a window alone w neighbours to either side. `d_head` is the width
    of a head's values, and of its queries and keys where `d_key` is not given (the paper's d_v and d_k). `rotary` turns
    queries and keys by their positions.

    Raises ValueError where d_model does not divide into the heads, and for a causal mask, a window or `rotary` with `cross`.
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
        rotary: RotaryPositions | None = None,
    ) -> None:
        super().__init__()
        if d_head is None and d_model % n_heads:
            raise ValueError(f"d_model {d_model} does not divide into {n_heads} heads; give d_head")
        if cross and causal:
            raise ValueError("causal: cross-attention cannot be causal")
        if cross and window is not None:
            raise ValueError(f"window {window}: cross-attention cannot be windowed")
        if cross and rotary is not None:
            raise ValueError("rotary: cross-attention cannot use rotary positions")
        # d_v in the paper, d_model / n_heads unless given
        self.n_heads, self.d_head = n_heads, d_model // n_heads if d_head is None else d_head
        # d_k in the paper: 16 or 32 beside d_v = 64 in its table 3, rows B
        self.d_key = self.d_head if d_key is None else d_key
        self.dropout, self.causal, self.window, self.cross = dropout, causal, window, cross
        if cross:
            # queries come from one sequence, keys and values from another: two projections
            self.query = nn.Linear(d_model, n_heads * self.d_key)
            self.key_value = nn.Linear(d_model, sum(self.split_sizes))
        else:
            # one product reads x once, in place of three that read it three times
            self.qkv = nn.Linear(d_model, sum(self.split_sizes))
        # W^O, over the heads side by side
        self.output = nn.Linear(n_heads * self.d_head, d_model)
        self.rotary = rotary

    @property
    def fused_projection(self) -> nn.Linear:
        """The linear layer that computes queries, keys and values, or with `cross` keys and values."""
        return self.key_value if self.cross else self.qkv

    @property
    def split_sizes(self) -> list[int]:
        """Sizes of the parts of `fused_projection`'s output: queries (without `cross`), keys, values."""
        widths = (self.d_key, self.d_head) if self.cross else (self.d_key, self.d_key, self.d_head)
        return [self.n_heads * width for width in widths]

    def forward(
        self,
        x: Float[Tensor, "*tokens d_model"],
        layout: Layout,
        memory: Float[Tensor, "*sources d_model"] | None = None,
        memory_layout: Layout | None = None,
        cache: KeyValueCache | None = None,
        need_weights: bool = False,
    ) -> tuple[Float[Tensor, "*tokens d_model"], Float[Tensor, "batch heads queries keys"] | None]:
        """The output, and with `need_weights` the attention weights, as torch.nn.MultiheadAttention returns them.

        Only cross-attention takes a `memory`, and with it its `memory_layout`; once its cache is filled it needs neither.
        Raises ValueError otherwise.
        """
        if memory is not None and not self.cross:
            raise ValueError("memory: self-attention takes none; build with cross=True")
        if memory is not None and memory_layout is None:
            raise ValueError("memory_layout: memory needs its own layout; the queries' padding is not the memory's")
        # keys lie in the memory's layout, with its lengths and its padding
        key_layout = memory_layout if self.cross and memory_layout is not None else layout
        dropout = self.dropout if self.training else 0.0
        q, kv = self._project(x, layout, memory, cache)  # each (*tokens, heads, width)

        # training and scoring: attention within each sequence, nothing computed for padding
        if (
            isinstance(layout, PackedLayout)
            and isinstance(key_layout, PackedLayout)
            and kv is not None
            and cache is None
            and not need_weights
        ):
            context = attend_packed(q, *kv, layout, key_layout, causal=self.causal, window=self.window, dropout=dropout)
            # (tokens, heads, d_head) -> (tokens, heads * d_head)
            return self.output(context.flatten(-2)), None

        # decoding, or attention weights are needed: in the padded layout
        q = layout.unpack(q).transpose(1, 2)  # (batch, heads, queries, d_key)
        k, v, padding_mask = self._keys_values(kv, key_layout, cache)  # (batch, heads, keys, width)
        right_padded = cache is None and key_layout.host_lengths is not None
        if isinstance(layout, TreeLayout):  # several sequences in one row, each with its own mask
            mask = layout.attention_mask(self.window)
            context, attn_weights = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask), None
        else:
            context, attn_weights = self._attend(q, k, v, padding_mask, dropout, need_weights, right_padded)
        # heads side by side again: (batch, queries, heads * d_head)
        return self.output(layout.pack(context.transpose(1, 2).flatten(-2))), attn_weights

    def init_cache(self, batch: int, max_len: int, like: Tensor) -> KeyValueCache:
        """An empty cache for `max_len` positions, of the dtype and on the device of `like`."""
        widths = (self.d_key, self.d_head)
        return KeyValueCache(batch, self.n_heads, max_len, widths, dtype=like.dtype, device=like.device)

    def _project(
        self, x: Tensor, layout: Layout, memory: Tensor | None, cache: KeyValueCache | None
    ) -> tuple[Tensor, tuple[Tensor, Tensor] | None]:
        """Queries, and keys and values: None where a filled cross-attention cache already holds the memory's."""
        if not self.cross:
            q, k, v = self._split(self.qkv(x))
            if self.rotary is not None:  # before the cache, which so keeps keys turned by their own positions
                position = layout.positions(x.device)
                q, k = self.rotary(q, position), self.rotary(k, position)
            return q, (k, v)
        q = self.query(x).unflatten(-1, (self.n_heads, -1))
        # the memory does not change while targets grow: it was projected in the first step
        if cache is not None and cache.length:
            return q, None
        if memory is None:
            raise ValueError("cross-attention needs memory or a filled cache")
        k, v = self._split(self.key_value(memory))
        return q, (k, v)

    def _split(self, fused: Float[Tensor, "*tokens width"]) -> list[Tensor]:
        """The parts of a fused projection, each (*tokens, heads, width of one head)."""
        return [part.unflatten(-1, (self.n_heads, -1)) for part in fused.split(self.split_sizes, -1)]

    def _keys_values(
        self, kv: tuple[Tensor, Tensor] | None, key_layout: Layout, cache: KeyValueCache | None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """All keys and values, those of the cache in front, and which of them are real."""
        if kv is None:
            # cross-attention from the second step on
            assert cache is not None
            return *cache.kv(), cache.padding_mask
        # (batch, heads, new, width)
        k, v = (key_layout.unpack(part).transpose(1, 2) for part in kv)
        if cache is None:
            return k, v, key_layout.padding_mask
        return *cache.update(k, v, key_layout.padding_mask), cache.padding_mask

    def _attend(
        self,
        q: Float[Tensor, "batch heads queries d_key"],
        k: Float[Tensor, "batch heads keys d_key"],
        v: Float[Tensor, "batch heads keys d_head"],
        padding_mask: Bool[Tensor, "batch keys"] | None,
        dropout: float,
        need_weights: bool,
        right_padded: bool = False,
    ) -> tuple[Float[Tensor, "batch heads queries d_head"], Float[Tensor, "batch heads queries keys"] | None]:
        """By torch's fused kernel, or by the formula itself where the attention weights are needed."""
        n_queries, n_keys = q.shape[2], k.shape[2]
        # padding on the right is later than every real token: the causal mask hides it already
        no_key_mask = padding_mask is None or right_padded
        plain_causal = no_key_mask and self.causal and self.window is None and n_queries == n_keys
        if plain_causal and not need_weights:  # the kernel needs no mask in memory
            return fused_attention(q, k, v, None, dropout, is_causal=True), None
        # (queries, keys), the same for all sequences
        allowed = masks.layer_mask(n_queries, n_keys, self.causal, self.window, q.device)
        if padding_mask is not None:
            # (batch, 1, 1, keys); the two together are (batch, 1, queries, keys)
            real_keys = masks.expand_padding_mask(padding_mask)
            may_be_fully_masked = allowed is not None
            allowed = real_keys if allowed is None else allowed & real_keys
            if may_be_fully_masked and not need_weights:  # the formula itself gives zeros
                allowed = masks.with_own_position(allowed)
        if need_weights:
            return scaled_dot_product_attention(q, k, v, allowed, dropout)
        return fused_attention(q, k, v, allowed, dropout), None

    @property
    def supports_fast_decode(self) -> bool:
        """Whether `decode_step` can replace `forward` for one new token a sequence."""
        return self.causal and defines_decode_step(self)

    def decode_step(
        self,
        x: Float[Tensor, "batch d_model"],
        positions: Int[Tensor, "batch"],
        cache: KeyValueCache,
        allowed: Bool[Tensor, "batch keys"] | None,
    ) -> Float[Tensor, "batch d_model"]:
        """`forward` for one new token a sequence, without dropout and gradients, in as few operations as possible.

        `allowed` marks the real tokens of the cache, the new one included; None: all are.
        """
        # contiguous, since apply_linear may give a transposed result
        q, k, v = self._split(apply_linear(self.qkv, x).contiguous())  # (batch, heads, width)
        if self.rotary is not None:
            q, k = self.rotary(q, positions), self.rotary(k, positions)
        keys, values = cache.update(k[:, :, None], v[:, :, None])
        if self.window is not None and keys.shape[2] > self.window:
            # the newest position sees the last `window` keys: a slice of the cache in place of a mask
            keys, values = keys[:, :, -self.window :], values[:, :, -self.window :]
        # left-padded prompts: their padding stays in the cache
        mask = None if allowed is None else allowed[:, None, None, -keys.shape[2] :]
        context = functional.scaled_dot_product_attention(q[:, :, None], keys, values, attn_mask=mask)
        return apply_linear(self.output, context.view(len(x), -1))
