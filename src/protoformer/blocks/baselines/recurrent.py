"""Recurrent layers: LSTM (Hochreiter and Schmidhuber 1997) and GRU (Cho et al. 2014).

Encoder layers are bidirectional (Graves et al. 2005), decoder layers run from left to right. What papers add to the
recurrence is an argument: residual connections (GNMT, arXiv 1609.08144, section 3.1), dropout on a layer's output (Zaremba
et al. 2014, arXiv 1409.2329, section 3.2), layer normalisation. A decoder layer may attend to a source.

Recurrences run on padded batches, where the library's kernels are fastest. Padding is on the right, or on the left where a
decoder continues prompts of unequal length.
"""

from typing import Any, Literal, get_args

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from protoformer.blocks.baselines.source_attention import ProjectedSource, SourceAttention, StateCachedLayer
from protoformer.blocks.kernels.cache import KeyValueCache, StateCache
from protoformer.blocks.kernels.dropout import Dropout
from protoformer.blocks.kernels.packing import Layout

Cell = Literal["lstm", "gru"]
RecurrentNorm = Literal["none", "pre", "post"]
RecurrentState = tuple[Tensor, ...]  # (batch, d_model) each: the hidden state, and of an LSTM its cell state


def build_rnn(cell: Cell, d_input: int, d_model: int) -> nn.LSTM | nn.GRU:
    """Torch's LSTM or GRU with one layer in one direction."""
    if cell not in get_args(Cell):
        raise ValueError(f"cell {cell!r}: one of {', '.join(get_args(Cell))}")
    return (nn.LSTM if cell == "lstm" else nn.GRU)(d_input, d_model, batch_first=True)


def apply_rnn(rnn: nn.RNNBase, x: Any, state: Any = None) -> tuple[Any, Any]:
    """`rnn(x, state)` in the precision of its weights, outside of autocast.

    On CUDA autocast runs recurrences in fp16, whatever its own dtype is; and no scaler protects fp16 in a run in bf16. `x` is
    a tensor or a packed sequence.
    """
    weight = next(rnn.parameters())
    device = weight.device.type
    if device == "meta" or not torch.is_autocast_enabled(device):
        return rnn(x, state)
    if state is not None:
        state = tuple(part.to(weight.dtype) for part in state) if isinstance(state, tuple) else state.to(weight.dtype)
    with torch.autocast(device, enabled=False):
        return rnn(x.to(weight.dtype), state)


class BidirectionalRNN(nn.Module):
    """Two recurrences of half the width, one from left to right and one from right to left.

    Padding is on the right; the recurrence from right to left begins at each sequence's last real token.
    """

    def __init__(self, d_model: int, cell: Cell = "lstm") -> None:
        super().__init__()
        if d_model % 2:
            raise ValueError(f"d_model={d_model}: must be even for two directions")
        self.forwards = build_rnn(cell, d_model, d_model // 2)
        self.backwards = build_rnn(cell, d_model, d_model // 2)

    def forward(self, x: Float[Tensor, "*tokens d_model"], layout: Layout) -> Float[Tensor, "*tokens d_model"]:
        padded = layout.unpack(x)  # (batch, seq, d_model)
        position = torch.arange(layout.seq, device=x.device)[None]
        reversed_position = position.flip(1).expand(layout.batch, -1)
        if layout.padding_mask is not None:
            # reverse the real tokens of each sequence and leave its padding where it is
            lengths = layout.padding_mask.sum(1, keepdim=True)
            reversed_position = torch.where(position < lengths, lengths - 1 - position, position)
        index = reversed_position[:, :, None]
        # padding on the right comes after the real tokens, and changes none of them
        left_to_right, _ = apply_rnn(self.forwards, padded)
        # reversed copies through the second recurrence
        right_to_left, _ = apply_rnn(self.backwards, padded.gather(1, index.expand_as(padded)))
        # and back into the order of the text: the same index is its own inverse
        right_to_left = right_to_left.gather(1, index.expand_as(right_to_left))
        # (batch, seq, d_model / 2) twice
        return layout.pack(torch.cat([left_to_right, right_to_left], dim=-1))


class BiLSTM(BidirectionalRNN):
    """The BiLSTM on top of BERT's left-to-right baseline (arXiv 1810.04805, section 5.1)."""

    def __init__(self, d_model: int) -> None:
        super().__init__(d_model, "lstm")


class UnidirectionalRNN(nn.Module):
    """A recurrence from left to right, which can continue from a cached state."""

    def __init__(self, d_model: int, cell: Cell = "lstm", d_input: int | None = None) -> None:
        super().__init__()
        # Bahdanau's decoder reads [embedding; context], which is wider
        self.recurrence = build_rnn(cell, d_input or d_model, d_model)

    def forward(
        self,
        x: Float[Tensor, "*tokens d_input"],
        layout: Layout,
        cache: StateCache | None = None,
        initial_state: RecurrentState = (),
    ) -> Float[Tensor, "*tokens d_model"]:
        """From the state in `cache`, which is updated, or from `initial_state` (empty: zeros)."""
        padded = layout.unpack(x)
        if cache is None:
            return layout.pack(self.run_unpadded(padded, initial_state)[0])
        # cached: the state after the last real token is kept
        out, state = self.run_padded(padded, layout.padding_mask, cache.state or initial_state)
        cache.advance(layout.seq, layout.padding_mask)
        cache.state = state
        return layout.pack(out)

    def run_unpadded(
        self, padded: Float[Tensor, "batch seq d_input"], state: RecurrentState
    ) -> tuple[Float[Tensor, "batch seq d_model"], RecurrentState]:
        """Over tokens that are all real, or where the final state is not used."""
        out, last = apply_rnn(self.recurrence, padded, self._to_torch(state))
        return out, self._from_torch(last)

    def run_padded(
        self,
        padded: Float[Tensor, "batch seq d_input"],
        padding_mask: Bool[Tensor, "batch seq"] | None,
        state: RecurrentState,
    ) -> tuple[Float[Tensor, "batch seq d_model"], RecurrentState]:
        """Padding, on either side, leaves the state unchanged; its outputs are zero."""
        if padding_mask is None:
            return self.run_unpadded(padded, state)
        # packed sequences want padding at the end: move the real tokens of each sequence to the front, and back afterwards
        order = (~padding_mask).long().argsort(dim=1, stable=True)[:, :, None]
        # (batch, seq, d_input), real tokens first, and the number of them in each sequence
        packed = pack_padded_sequence(
            padded.gather(1, order.expand_as(padded)),
            # torch refuses a length of 0: an empty sequence reads one token, whose state is not used
            padding_mask.sum(1).clamp_min(1).cpu(),
            batch_first=True,
            enforce_sorted=False,
        )
        out, last = apply_rnn(self.recurrence, packed, self._to_torch(state))
        unpacked, _ = pad_packed_sequence(out, batch_first=True, total_length=padded.shape[1])
        # outputs back to the positions of their inputs
        return torch.zeros_like(unpacked).scatter(1, order.expand_as(unpacked), unpacked), self._from_torch(last)

    def _to_torch(self, state: RecurrentState) -> Tensor | RecurrentState | None:
        """Torch has a leading axis of layers, a tuple for an LSTM and one tensor for a GRU."""
        if not state:
            return None
        # (1, batch, d_model) each
        parts = tuple(part[None].contiguous() for part in state)
        return parts if isinstance(self.recurrence, nn.LSTM) else parts[0]

    def _from_torch(self, last: Tensor | RecurrentState) -> RecurrentState:
        return (last[0],) if isinstance(last, Tensor) else tuple(part[0] for part in last)


class ResidualNorm(nn.Module):
    """Base of layers with a recurrence f: [x +] Dropout(f(x)), with LayerNorm on the input (pre), on the sum (post) or none."""

    def __init__(
        self, d_model: int, *, residual: bool = False, norm: RecurrentNorm = "none", norm_eps: float = 1e-5,
        dropout: float = 0.0,
    ) -> None:  # fmt: skip
        super().__init__()
        if norm not in get_args(RecurrentNorm):
            raise ValueError(f"norm {norm!r}: one of {', '.join(get_args(RecurrentNorm))}")
        self.residual, self.norm_position = residual, norm
        # one LayerNorm, used on one side
        self.norm = None if norm == "none" else nn.LayerNorm(d_model, eps=norm_eps)
        self.dropout = Dropout(dropout)

    def normalized_input(self, x: Float[Tensor, "*tokens d_model"]) -> Float[Tensor, "*tokens d_model"]:
        return self.norm(x) if self.norm is not None and self.norm_position == "pre" else x

    def add_residual(
        self, x: Float[Tensor, "*tokens d_model"], h: Float[Tensor, "*tokens d_model"]
    ) -> Float[Tensor, "*tokens d_model"]:
        out = x + self.dropout(h) if self.residual else self.dropout(h)
        return self.norm(out) if self.norm is not None and self.norm_position == "post" else out


class RecurrentEncoderLayer(ResidualNorm):
    """A bidirectional recurrence."""

    def __init__(
        self, d_model: int, *, cell: Cell = "lstm", residual: bool = False, norm: RecurrentNorm = "none",
        norm_eps: float = 1e-5, dropout: float = 0.0,
    ) -> None:  # fmt: skip
        super().__init__(d_model, residual=residual, norm=norm, norm_eps=norm_eps, dropout=dropout)
        self.recurrence = BidirectionalRNN(d_model, cell)

    def forward(
        self, x: Float[Tensor, "*tokens d_model"], layout: Layout, need_weights: bool = False
    ) -> tuple[Float[Tensor, "*tokens d_model"], None]:
        """As `EncoderLayer.forward`; there are no attention weights."""
        return self.add_residual(x, self.recurrence(self.normalized_input(x), layout)), None


class RecurrentDecoderLayer(StateCachedLayer, ResidualNorm):
    """A recurrence from left to right; with `cross_attention` it attends to a source.

    `style="luong"` (section 3.1, equation 5): h = RNN(x), then tanh(W [context of h; h]). `style="bahdanau"` (section 3.1,
    appendix A.2.2): the context of the previous state is part of the recurrence's input, so that tokens come one after
    another in training too. The first state is tanh(W s h_1), h_1 the memory's first vector, in both.

    Differs: Bahdanau's readout is Luong's tanh in place of a maxout layer; Luong's input feeding (section 3.3) is left out,
    since it would be sequential in the same way.
    """

    def __init__(
        self,
        d_model: int,
        cross_attention: SourceAttention | None = None,
        *,
        cell: Cell = "lstm",
        style: Literal["luong", "bahdanau"] = "luong",
        residual: bool = False,
        norm: RecurrentNorm = "none",
        norm_eps: float = 1e-5,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(d_model, residual=residual, norm=norm, norm_eps=norm_eps, dropout=dropout)
        if style not in ("luong", "bahdanau"):
            raise ValueError(f"style {style!r}: luong or bahdanau")
        self.style, self.cross_attention = style, cross_attention
        context_in_input = cross_attention is not None and style == "bahdanau"
        self.recurrence = UnidirectionalRNN(d_model, cell, 2 * d_model if context_in_input else d_model)
        # the first state is made from the source (Bahdanau, appendix A.2.2)
        self.start = nn.Linear(d_model, d_model) if cross_attention is not None else None
        self.readout = nn.Linear(2 * d_model, d_model) if cross_attention is not None else None

    def forward(
        self,
        x: Float[Tensor, "*tokens d_model"],
        layout: Layout,
        memory: Float[Tensor, "*sources d_model"] | None = None,
        memory_layout: Layout | None = None,
        cache: StateCache | None = None,
        cross_cache: KeyValueCache | None = None,
        need_weights: bool = False,
    ) -> tuple[Float[Tensor, "*tokens d_model"], None, Float[Tensor, "batch 1 targets sources"] | None]:
        """As `DecoderLayer.forward`; there are no attention weights over the sequence itself.

        With a source all tokens of a cached call must be real, else ValueError.
        """
        h = self.normalized_input(x)
        if self.cross_attention is None or self.readout is None:
            # a language model, or a layer below the one that attends
            return self.add_residual(x, self.recurrence(h, layout, cache)), None, None
        if cache is not None and layout.padding_mask is not None:
            raise ValueError("step-by-step decoding takes targets without padding")
        # projected once a sequence, then from the cache
        source = self.cross_attention.project_source(memory, memory_layout, cross_cache)
        state = cache.state if cache is not None and cache.state else self._initial_state(source.values)
        if self.style == "luong":
            # all states first, then all contexts at once
            states = layout.unpack(self.recurrence(h, layout, cache, state))
            context, attn_weights = self.cross_attention(states, source)
        else:
            # a context needs the state before it: one token after another
            states, context, attn_weights, state = self._step_by_step(layout.unpack(h), source, state)
            if cache is not None:
                cache.advance(layout.seq)
                cache.state = state
        # Luong's equation 5: attentional hidden state tanh(W [c; h])
        h = torch.tanh(self.readout(layout.pack(torch.cat([context, states], dim=-1))))
        return self.add_residual(x, h), None, attn_weights if need_weights else None

    def _initial_state(self, memory: Float[Tensor, "batch sources d_model"]) -> RecurrentState:
        assert self.start is not None
        hidden = torch.tanh(self.start(memory[:, 0]))
        # an LSTM's cell state starts at zero
        return (hidden, torch.zeros_like(hidden)) if isinstance(self.recurrence.recurrence, nn.LSTM) else (hidden,)

    def _step_by_step(
        self, padded: Float[Tensor, "batch seq d_model"], source: ProjectedSource, state: RecurrentState
    ) -> tuple[Tensor, Tensor, Tensor, RecurrentState]:
        """Hidden states, contexts and attention weights of all tokens, and the last state. A context is computed from the
        previous hidden state."""
        assert self.cross_attention is not None
        states, contexts, attn_weights = [], [], []
        for step in range(padded.shape[1]):
            # state[0] is the hidden state: (batch, 1, d_model) as a query
            context, weights = self.cross_attention(state[0][:, None], source)
            # s_i = f(s_{i-1}, [y_{i-1}; c_i])
            out, state = self.recurrence.run_unpadded(torch.cat([padded[:, step : step + 1], context], dim=-1), state)
            states.append(out)
            contexts.append(context)
            attn_weights.append(weights)
        return torch.cat(states, dim=1), torch.cat(contexts, dim=1), torch.cat(attn_weights, dim=2), state
