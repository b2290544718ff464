"""Attention from a decoder to its source, as it was before the Transformer: one head. Scores of a state s and a source h:

- additive: v^T tanh(W s + U h) (Bahdanau et al. 2014, arXiv 1409.0473, appendix A.1.2);
- dot: s^T h, and general: s^T W h (Luong et al. 2015, arXiv 1508.04025, section 3.1, equation 8);
- scaled_dot: s^T h / sqrt(d_model) (arXiv 1706.03762, equation 1), for states and sources that are layer-normalised.

The context is the mean of the source's vectors, weighted by the softmax of the scores.
"""

from typing import Literal, NamedTuple, get_args

from jaxtyping import Bool, Float
from torch import Tensor, nn, tanh

from protoformer.blocks import masks
from protoformer.blocks.kernels.cache import KeyValueCache, StateCache
from protoformer.blocks.kernels.packing import Layout

ScoreFunction = Literal["additive", "dot", "scaled_dot", "general"]


class ProjectedSource(NamedTuple):
    """The encoder's output as keys (for the scores) and values (for the context), with its padding mask."""

    keys: Float[Tensor, "batch sources d_model"]
    values: Float[Tensor, "batch sources d_model"]
    padding_mask: Bool[Tensor, "batch sources"] | None


class SourceAttention(nn.Module):
    """Context vectors for a decoder's states. The memory is projected once (`project_source`) and attended to in each step."""

    def __init__(self, d_model: int, score: ScoreFunction = "general") -> None:
        super().__init__()
        if score not in get_args(ScoreFunction):
            raise ValueError(f"score {score!r}: one of {', '.join(get_args(ScoreFunction))}")
        self.d_model, self.score = d_model, score
        projects_keys = score in ("additive", "general")
        # U (additive) or W (general) is applied to the source, once a sequence
        self.key = nn.Linear(d_model, d_model, bias=score == "additive") if projects_keys else nn.Identity()
        self.query = nn.Linear(d_model, d_model, bias=False) if score == "additive" else nn.Identity()
        self.energy = nn.Linear(d_model, 1, bias=False) if score == "additive" else None

    def init_cache(self, batch: int, memory_len: int, like: Tensor) -> KeyValueCache:
        """An empty cache for the keys and values of a memory of `memory_len` positions."""
        return KeyValueCache(batch, 1, memory_len, (self.d_model, self.d_model), dtype=like.dtype, device=like.device)

    def project_source(
        self,
        memory: Float[Tensor, "*sources d_model"] | None,
        layout: Layout | None,
        cache: KeyValueCache | None = None,
    ) -> ProjectedSource:
        """Keys and values of the memory, or those of `cache` once it is filled; an empty `cache` is filled with them.

        Raises ValueError without both a memory with its layout and a filled cache.
        """
        if cache is not None and cache.length:
            # the one head's axis is dropped: (batch, sources, d_model)
            return ProjectedSource(cache.keys[:, 0], cache.values[:, 0], cache.padding_mask)
        if memory is None or layout is None:
            raise ValueError("source attention needs memory with a layout, or a filled cache")
        # values are the memory itself: contexts are means of it
        keys, values = layout.unpack(self.key(memory)), layout.unpack(memory)
        if cache is not None:
            cache.update(keys[:, None], values[:, None], layout.padding_mask)
        return ProjectedSource(keys, values, layout.padding_mask)

    def forward(
        self, states: Float[Tensor, "batch targets d_model"], source: ProjectedSource
    ) -> tuple[Float[Tensor, "batch targets d_model"], Float[Tensor, "batch 1 targets sources"]]:
        """A context for each state, and the attention weights, those of one head."""
        allowed = None if source.padding_mask is None else source.padding_mask[:, None]  # (batch, 1, sources)
        attn_weights = masks.masked_softmax(self._scores(self.query(states), source.keys), allowed)
        # an axis for the one head, as multi-head attention has one for each
        return attn_weights @ source.values, attn_weights[:, None]

    def _scores(
        self, queries: Float[Tensor, "batch targets d_model"], keys: Float[Tensor, "batch sources d_model"]
    ) -> Float[Tensor, "batch targets sources"]:
        if self.energy is None:
            # (batch, targets, sources)
            products = queries @ keys.transpose(1, 2)
            return products * self.d_model**-0.5 if self.score == "scaled_dot" else products
        # (batch, targets, 1, d) + (batch, 1, sources, d): every pair of a state and a source
        return self.energy(tanh(queries[:, :, None] + keys[:, None])).squeeze(-1)


class StateCachedLayer:
    """The caches of a decoder layer that keeps a state in place of keys and values; inherited beside `nn.Module`."""

    cross_attention: SourceAttention | None

    def init_cache(self, batch: int, max_len: int, like: Tensor) -> StateCache:
        """An empty cache of the state, which has no axis of positions."""
        return StateCache(batch, max_len, like.device)

    def init_cross_cache(self, batch: int, memory_len: int, like: Tensor) -> KeyValueCache | None:
        """As `DecoderLayer.init_cross_cache`."""
        return None if self.cross_attention is None else self.cross_attention.init_cache(batch, memory_len, like)
