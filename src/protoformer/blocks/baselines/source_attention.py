"""Attention from a decoder to the memory of its source, as it was before the Transformer: one head.

- additive: v^T tanh(W s + U h) (Bahdanau et al. 2014, arXiv 1409.0473, appendix A.1.2);
- dot: s^T h, and general: s^T W h (Luong et al. 2015, arXiv 1508.04025, section 3.1, equation 8);
- scaled_dot: s^T h / sqrt(d_model) (arXiv 1706.03762, equation 1), for memories as large as layer normalisation makes them.

The context is the mean of the memory's vectors by the softmax of these scores.
"""

from typing import Literal, NamedTuple, get_args

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from protoformer.blocks.kernels.cache import KeyValueCache
from protoformer.blocks.kernels.packing import Layout

Score = Literal["additive", "dot", "scaled_dot", "general"]


class Source(NamedTuple):
    """What is looked at: keys that scores are made of, values that the context is made of, and which of them are real."""

    keys: Float[Tensor, "batch sources d_model"]
    values: Float[Tensor, "batch sources d_model"]
    padding_mask: Bool[Tensor, "batch sources"] | None


class SourceAttention(nn.Module):
    """Contexts for the states of a decoder. The memory is read once (`source`), and looked at as often as need be."""

    def __init__(self, d_model: int, score: Score = "general") -> None:
        super().__init__()
        if score not in get_args(Score):
            raise ValueError(f"score {score!r}: one of {', '.join(get_args(Score))}")
        self.d_model, self.score = d_model, score
        own = score in ("additive", "general")
        self.key = nn.Linear(d_model, d_model, bias=score == "additive") if own else nn.Identity()
        self.query = nn.Linear(d_model, d_model, bias=False) if score == "additive" else nn.Identity()
        self.energy = nn.Linear(d_model, 1, bias=False) if score == "additive" else None

    def cache(self, batch: int, sources: int, like: Tensor) -> KeyValueCache:
        """Room for the keys and values of a memory."""
        return KeyValueCache(batch, 1, sources, (self.d_model, self.d_model), dtype=like.dtype, device=like.device)

    def source(
        self,
        memory: Float[Tensor, "*sources d_model"] | None,
        layout: Layout | None,
        cache: KeyValueCache | None = None,
    ) -> Source:
        """The memory's keys and values, kept in `cache`; where it is filled, those that it holds.

        Raises ValueError where there is neither a memory with its layout nor a filled cache.
        """
        if cache is not None and cache.length:
            return Source(cache.keys[:, 0], cache.values[:, 0], cache.padding_mask)
        if memory is None or layout is None:
            raise ValueError("attention to a source needs its memory with a layout, or a filled cache")
        keys, values = layout.unpack(self.key(memory)), layout.unpack(memory)
        if cache is not None:
            cache.update(keys[:, None], values[:, None], layout.padding_mask)
        return Source(keys, values, layout.padding_mask)

    def forward(
        self, states: Float[Tensor, "batch targets d_model"], source: Source, weights: list[Tensor] | None = None
    ) -> Float[Tensor, "batch targets d_model"]:
        """A context for each state. `weights`, where given, gets `batch 1 targets sources` appended."""
        scores = self._scores(self.query(states), source.keys)
        if source.padding_mask is not None:
            scores = scores.masked_fill(~source.padding_mask[:, None], torch.finfo(scores.dtype).min)
        share = scores.softmax(-1)
        if weights is not None:
            weights.append(share.detach()[:, None])
        return share @ source.values

    def _scores(
        self, queries: Float[Tensor, "batch targets d_model"], keys: Float[Tensor, "batch sources d_model"]
    ) -> Float[Tensor, "batch targets sources"]:
        if self.energy is None:
            products = queries @ keys.transpose(1, 2)
            return products * self.d_model**-0.5 if self.score == "scaled_dot" else products
        return self.energy(torch.tanh(queries[:, :, None] + keys[:, None])).squeeze(-1)
