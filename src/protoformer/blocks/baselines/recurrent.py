"""Recurrent layers over the real tokens of a batch: LSTM (Hochreiter and Schmidhuber 1997) and GRU (Cho et al. 2014).

An encoder's layers read from both sides (Graves et al. 2005), a decoder's from left to right. Of what papers put around the
recurrence each thing is an argument: residual connections (GNMT, arXiv 1609.08144, section 3.1), dropout on what leaves a layer
(Zaremba et al. 2014, arXiv 1409.2329, section 3.2), a layer normalisation. A decoder's layer may look at a source, before the
recurrence or after it.

The recurrences run on rectangles, where the library's kernels are fastest; padding stands at the ends of rows, or in front of
them where a decoder goes on with texts of unequal length.
"""

from typing import Literal, get_args

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from protoformer.blocks.baselines.source_attention import Source, SourceAttention
from protoformer.blocks.kernels.cache import KeyValueCache, StateCache
from protoformer.blocks.kernels.dropout import Dropout
from protoformer.blocks.kernels.packing import Layout

Cell = Literal["lstm", "gru"]
RecurrentNorm = Literal["none", "pre", "post"]
State = tuple[Tensor, ...]  # `batch d_model` each: the output, and of an LSTM its cell


def recurrence(cell: Cell, d_input: int, d_model: int) -> nn.LSTM | nn.GRU:
    """One layer in one direction."""
    if cell not in get_args(Cell):
        raise ValueError(f"cell {cell!r}: one of {', '.join(get_args(Cell))}")
    return (nn.LSTM if cell == "lstm" else nn.GRU)(d_input, d_model, batch_first=True)


class BidirectionalRNN(nn.Module):
    """Two recurrences, one from each side, each of half the width.

    Padding stands at the ends of rows; the one from the right begins at each row's last real token.
    """

    def __init__(self, d_model: int, cell: Cell = "lstm") -> None:
        super().__init__()
        if d_model % 2:
            raise ValueError(f"d_model={d_model}: two directions need an even width")
        self.forwards = recurrence(cell, d_model, d_model // 2)
        self.backwards = recurrence(cell, d_model, d_model // 2)

    def forward(self, x: Float[Tensor, "*tokens d_model"], layout: Layout) -> Float[Tensor, "*tokens d_model"]:
        rows = layout.unpack(x)
        place = torch.arange(layout.seq, device=x.device)[None]
        mirrored = place.flip(1).expand(layout.batch, -1)
        if layout.padding_mask is not None:
            lengths = layout.padding_mask.sum(1, keepdim=True)
            mirrored = torch.where(place < lengths, lengths - 1 - place, place)
        index = mirrored[:, :, None]
        before, _ = self.forwards(rows)
        after, _ = self.backwards(rows.gather(1, index.expand_as(rows)))
        after = after.gather(1, index.expand_as(after))
        return layout.pack(torch.cat([before, after], dim=-1))


class BiLSTM(BidirectionalRNN):
    """Two LSTMs, as BERT's left-to-right rival had them over its encoder (arXiv 1810.04805, section 5.1)."""

    def __init__(self, d_model: int) -> None:
        super().__init__(d_model, "lstm")


class UnidirectionalRNN(nn.Module):
    """A recurrence from left to right that can stop and go on."""

    def __init__(self, d_model: int, cell: Cell = "lstm", d_input: int | None = None) -> None:
        super().__init__()
        self.recurrence = recurrence(cell, d_input or d_model, d_model)

    def forward(
        self, x: Float[Tensor, "*tokens d_input"], layout: Layout, cache: StateCache | None = None, start: State = ()
    ) -> Float[Tensor, "*tokens d_model"]:
        """From the state that `cache` holds and into it, or from `start` (nothing: zeros)."""
        rows = layout.unpack(x)
        if cache is None:
            return layout.pack(self.run(rows, start)[0])
        out, state = self.go_on(rows, layout.padding_mask, cache.state or start)
        cache.advance(layout.seq, layout.padding_mask)
        cache.state = state
        return layout.pack(out)

    def run(
        self, rows: Float[Tensor, "batch seq d_input"], state: State
    ) -> tuple[Float[Tensor, "batch seq d_model"], State]:
        """Over tokens that are all real, or where the state at the end is of no use."""
        out, last = self.recurrence(rows, self._given(state))
        return out, self._taken(last)

    def go_on(
        self, rows: Float[Tensor, "batch seq d_input"], padding_mask: Bool[Tensor, "batch seq"] | None, state: State
    ) -> tuple[Float[Tensor, "batch seq d_model"], State]:
        """Padding, wherever it stands, leaves the state as it is; its own outputs are zero."""
        if padding_mask is None:
            return self.run(rows, state)
        order = (~padding_mask).long().argsort(dim=1, stable=True)[:, :, None]  # real tokens first
        packed = pack_padded_sequence(
            rows.gather(1, order.expand_as(rows)),
            padding_mask.sum(1).clamp_min(1).cpu(),
            batch_first=True,
            enforce_sorted=False,
        )
        out, last = self.recurrence(packed, self._given(state))
        together, _ = pad_packed_sequence(out, batch_first=True, total_length=rows.shape[1])
        return torch.zeros_like(together).scatter(1, order.expand_as(together), together), self._taken(last)

    def _given(self, state: State) -> Tensor | State | None:
        if not state:
            return None
        parts = tuple(part[None].contiguous() for part in state)
        return parts if isinstance(self.recurrence, nn.LSTM) else parts[0]

    def _taken(self, last: Tensor | State) -> State:
        return (last[0],) if isinstance(last, Tensor) else tuple(part[0] for part in last)


class ResidualNorm(nn.Module):
    """What stands around a recurrence: x + Dropout(f(x)), with the residual connection or without, its input or its output
    normalised, or neither."""

    def __init__(
        self, d_model: int, *, residual: bool = False, norm: RecurrentNorm = "none", norm_eps: float = 1e-5,
        dropout: float = 0.0,
    ) -> None:  # fmt: skip
        super().__init__()
        if norm not in get_args(RecurrentNorm):
            raise ValueError(f"norm {norm!r}: one of {', '.join(get_args(RecurrentNorm))}")
        self.residual, self.where = residual, norm
        self.norm = None if norm == "none" else nn.LayerNorm(d_model, eps=norm_eps)
        self.dropout = Dropout(dropout)

    def before(self, x: Float[Tensor, "*tokens d_model"]) -> Float[Tensor, "*tokens d_model"]:
        return self.norm(x) if self.norm is not None and self.where == "pre" else x

    def after(
        self, x: Float[Tensor, "*tokens d_model"], h: Float[Tensor, "*tokens d_model"]
    ) -> Float[Tensor, "*tokens d_model"]:
        out = x + self.dropout(h) if self.residual else self.dropout(h)
        return self.norm(out) if self.norm is not None and self.where == "post" else out


class RecurrentEncoderLayer(ResidualNorm):
    """A recurrence from both sides."""

    def __init__(
        self, d_model: int, *, cell: Cell = "lstm", residual: bool = False, norm: RecurrentNorm = "none",
        norm_eps: float = 1e-5, dropout: float = 0.0,
    ) -> None:  # fmt: skip
        super().__init__(d_model, residual=residual, norm=norm, norm_eps=norm_eps, dropout=dropout)
        self.recurrence = BidirectionalRNN(d_model, cell)

    def forward(
        self, x: Float[Tensor, "*tokens d_model"], layout: Layout, weights: list[Tensor] | None = None
    ) -> Float[Tensor, "*tokens d_model"]:
        """There are no attention weights: `weights` stays as it is."""
        return self.after(x, self.recurrence(self.before(x), layout))


class RecurrentDecoderLayer(ResidualNorm):
    """A recurrence from left to right; with `cross_attention` it looks at a source too.

    `looks="after"` is Luong's (section 3.1, equation 5): h = RNN(x), then tanh(W [context of h; h]). `looks="before"` is
    Bahdanau's (section 3.1, appendix A.2.2): the context of the last state stands in the recurrence's input, so that tokens
    come one after another in training too. Its first state is tanh(W s h_1), h_1 the memory's first vector; the same is done
    for Luong's.

    Differs: Bahdanau's readout is Luong's tanh in place of a maxout layer; Luong's input feeding (section 3.3) is left out,
    since it would be sequential in the same way.
    """

    def __init__(
        self,
        d_model: int,
        cross_attention: SourceAttention | None = None,
        *,
        cell: Cell = "lstm",
        looks: Literal["before", "after"] = "after",
        residual: bool = False,
        norm: RecurrentNorm = "none",
        norm_eps: float = 1e-5,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(d_model, residual=residual, norm=norm, norm_eps=norm_eps, dropout=dropout)
        if looks not in ("before", "after"):
            raise ValueError(f"looks {looks!r}: before (Bahdanau) or after (Luong)")
        self.looks, self.cross_attention = looks, cross_attention
        early = cross_attention is not None and looks == "before"
        self.recurrence = UnidirectionalRNN(d_model, cell, 2 * d_model if early else d_model)
        self.start = nn.Linear(d_model, d_model) if cross_attention is not None else None
        self.readout = nn.Linear(2 * d_model, d_model) if cross_attention is not None else None

    def cache(self, batch: int, max_len: int, like: Tensor) -> StateCache:
        return StateCache(batch, max_len, like.device)

    def cross_cache(self, batch: int, sources: int, like: Tensor) -> KeyValueCache | None:
        return None if self.cross_attention is None else self.cross_attention.cache(batch, sources, like)

    def forward(
        self,
        x: Float[Tensor, "*tokens d_model"],
        layout: Layout,
        memory: Float[Tensor, "*sources d_model"] | None = None,
        memory_layout: Layout | None = None,
        cache: StateCache | None = None,
        cross_cache: KeyValueCache | None = None,
        weights: list[Tensor] | None = None,
        cross_weights: list[Tensor] | None = None,
    ) -> Float[Tensor, "*tokens d_model"]:
        """As `DecoderLayer`; there are no attention weights over the sequence itself, so `weights` stays as it is.

        With a source all tokens of a cached call must be real, else ValueError.
        """
        h = self.before(x)
        if self.cross_attention is None or self.readout is None:
            return self.after(x, self.recurrence(h, layout, cache))
        if cache is not None and layout.padding_mask is not None:
            raise ValueError("targets that are read step by step have no padding")
        source = self.cross_attention.source(memory, memory_layout, cross_cache)
        state = cache.state if cache is not None and cache.state else self._first(source.values)
        if self.looks == "after":
            states = layout.unpack(self.recurrence(h, layout, cache, state))
            context = self.cross_attention(states, source, cross_weights)
        else:
            states, context, last = self._step_by_step(layout.unpack(h), source, state, cross_weights)
            if cache is not None:
                cache.advance(layout.seq)
                cache.state = last
        return self.after(x, torch.tanh(self.readout(layout.pack(torch.cat([context, states], dim=-1)))))

    def _first(self, memory: Float[Tensor, "batch sources d_model"]) -> State:
        assert self.start is not None
        first = torch.tanh(self.start(memory[:, 0]))
        return (first, torch.zeros_like(first)) if isinstance(self.recurrence.recurrence, nn.LSTM) else (first,)

    def _step_by_step(
        self, rows: Tensor, source: Source, state: State, weights: list[Tensor] | None
    ) -> tuple[Float[Tensor, "batch seq d_model"], Float[Tensor, "batch seq d_model"], State]:
        """States and contexts of all tokens, each context that of the state before, and the last state."""
        assert self.cross_attention is not None
        states, contexts = [], []
        shares: list[Tensor] | None = None if weights is None else []
        for step in range(rows.shape[1]):
            context = self.cross_attention(state[0][:, None], source, shares)
            out, state = self.recurrence.run(torch.cat([rows[:, step : step + 1], context], dim=-1), state)
            states.append(out)
            contexts.append(context)
        if weights is not None and shares is not None:
            weights.append(torch.cat(shares, dim=2))
        return torch.cat(states, dim=1), torch.cat(contexts, dim=1), state
