"""Layouts of a batch: padded to (batch, seq), or its real tokens concatenated.

Token-wise work (embeddings, projections, feed-forward, norms, heads) is the same in either; attention asks the layout which
tokens belong to one sequence. A model packs on entry and unpacks on exit, so batches are padded everywhere else.
"""

from collections.abc import Hashable, Mapping, Sequence
from itertools import accumulate
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor


class SequenceLengths:
    """Numbers of real tokens of a batch's sequences, as the host knows them where the batch was made; padding is on the right.

    A layout that is given them asks the device for nothing, where its own copy of them would wait for all work queued there.
    `full`: there is no padding at all. A layout that is compiled reads that alone.
    """

    def __init__(self, values: Sequence[int], longest: int) -> None:
        """`longest` is the width of the padded batch."""
        self.values, self.longest = list(values), longest
        self.total = sum(self.values)
        self.full = self.total == longest * len(self.values)

    def as_tensor(self) -> Float[Tensor, "sequences"]:
        """On the host, in float64, for counts of operations."""
        return torch.tensor(self.values, dtype=torch.double, device="cpu")

    @property
    def next_tokens(self) -> int:
        """Tokens that follow another in their sequence."""
        return self.total - sum(value > 0 for value in self.values)


class PaddedLayout:
    """`batch seq`, padding included; `padding_mask` None means that all tokens are real.

    `lengths` may be given where padding is on the right. `offset` is the position of a sequence's first real token: 0, or with
    a key/value cache the number of real tokens in the cache, which differs between sequences where prompts of unequal length
    were padded.
    """

    def __init__(
        self,
        batch: int,
        seq: int,
        padding_mask: Bool[Tensor, "batch seq"] | None = None,
        offset: int | Int[Tensor, "batch"] = 0,
        lengths: SequenceLengths | None = None,
    ) -> None:
        self.batch, self.seq, self.padding_mask, self.offset = batch, seq, padding_mask, offset
        self.host_lengths = lengths

    def pack(self, padded: Shaped[Tensor, "batch seq *rest"]) -> Shaped[Tensor, "batch seq *rest"]:
        return padded

    def unpack(self, tokens: Shaped[Tensor, "batch seq *rest"]) -> Shaped[Tensor, "batch seq *rest"]:
        return tokens

    def positions(self, device: torch.device) -> Int[Tensor, "#batch seq"]:
        """Each token's position in its own sequence; padding in front is not counted."""
        offset = self.offset if isinstance(self.offset, int) else self.offset.to(device)[:, None]
        if self.padding_mask is None:
            return torch.arange(self.seq, device=device)[None] + offset
        # counts real tokens only; clamped for padding in front, whose positions are never used
        return (self.padding_mask.cumsum(1) - 1).clamp_min(0) + offset

    def gather(
        self, tokens: Float[Tensor, "batch seq d_model"], sequence: Int[Tensor, "n"], position: Int[Tensor, "n"]
    ) -> Float[Tensor, "n d_model"]:
        """The vectors of these sequences at these positions of the padded batch."""
        return tokens[sequence, position]


class PackedLayout:
    """`tokens`: the real tokens of a batch, sequence after sequence, without padding."""

    def __init__(self, padding_mask: Bool[Tensor, "batch seq"], lengths: SequenceLengths | None = None) -> None:
        self.batch, self.seq = padding_mask.shape
        if lengths is None and padding_mask.is_meta:  # it has no values: planned for a batch without padding
            lengths = SequenceLengths([self.seq] * self.batch, self.seq)
        self.padding_mask, self.host_lengths = padding_mask, lengths
        flat_mask = padding_mask.flatten()
        # sizes decide which calls are made: the host knows them, or two synchronisations a batch tell it
        if lengths is None:
            self.flat_index = flat_mask.nonzero().squeeze(1)
            self.lengths: list[int] = padding_mask.sum(1).tolist()
        else:
            self.flat_index = torch.nonzero_static(flat_mask, size=lengths.total).squeeze(1)
            self.lengths = lengths.values
        self._starts: list[int] = [0, *accumulate(self.lengths)]
        # groups of `packed_attention` for this batch, shared by all layers
        self.attention_groups: dict[Hashable, Any] = {}
        self._positions: Tensor | None = None

    def groups(self, max_grouped_len: int) -> list[list[int]]:
        """Sequences of like length together: the shortest of a group is at most 8 tokens or 15 % below its longest.

        Sequences longer than `max_grouped_len` stay alone.
        """
        # longest first, so that each group begins with its longest
        order = sorted(range(self.batch), key=lambda i: -self.lengths[i])
        groups: list[list[int]] = []
        for i in order:
            longest = self.lengths[groups[-1][0]] if groups else 0
            if groups and longest <= max_grouped_len and longest - self.lengths[i] <= max(8, 0.15 * longest):
                groups[-1].append(i)
            else:
                groups.append([i])
        return groups

    def token_slice(self, sequence: int) -> slice:
        """Where the tokens of one sequence are."""
        return slice(self._starts[sequence], self._starts[sequence + 1])

    def group_indices(
        self, sequences: list[int]
    ) -> tuple[Int[Tensor, "group longest"], Bool[Tensor, "group longest"] | None]:
        """Token indices of a group's sequences, padded to its longest, and the padding mask (None: all real)."""
        lengths = [self.lengths[i] for i in sequences]
        longest = max(lengths)
        # (group,)
        starts = torch.tensor([self._starts[i] for i in sequences], device=self.flat_index.device)
        # (longest,), added to each start
        columns = torch.arange(longest, device=self.flat_index.device)
        if min(lengths) == longest:
            return starts[:, None] + columns, None
        real = columns < torch.tensor(lengths, device=self.flat_index.device)[:, None]
        # padding points at some valid token: an empty sequence at the end starts one past the last
        padding_index = starts.clamp_max(self._starts[-1] - 1)[:, None]
        return torch.where(real, starts[:, None] + columns, padding_index), real

    def pack(self, padded: Shaped[Tensor, "batch seq *rest"]) -> Shaped[Tensor, "tokens *rest"]:
        # (batch * seq, ...) -> real tokens
        return padded.flatten(0, 1).index_select(0, self.flat_index)

    def unpack(self, tokens: Shaped[Tensor, "tokens *rest"]) -> Shaped[Tensor, "batch seq *rest"]:
        """Padding becomes zero."""
        trailing_shape = tokens.shape[1:]
        # the inverse: real tokens back into zeros of the padded shape
        padded = tokens.new_zeros(self.batch * self.seq, *trailing_shape).index_copy(0, self.flat_index, tokens)
        return padded.view(self.batch, self.seq, *trailing_shape)

    def positions(self, device: torch.device) -> Int[Tensor, "tokens"]:
        """Each token's position in its own sequence."""
        if self._positions is None:  # rotary positions ask in every layer
            self._positions = self.pack(self.padding_mask.cumsum(1) - 1)
        return self._positions

    def gather(
        self, tokens: Float[Tensor, "tokens d_model"], sequence: Int[Tensor, "n"], position: Int[Tensor, "n"]
    ) -> Float[Tensor, "n d_model"]:
        """The vectors of these sequences at these positions of the padded batch, which must be real tokens."""
        # (batch, seq): the index of each real token in the concatenation
        token_index = (self.padding_mask.flatten().cumsum(0) - 1).view(self.batch, self.seq)
        return tokens.index_select(0, token_index[sequence, position])


Layout = PaddedLayout | PackedLayout


class HiddenStates(NamedTuple):
    """The output of a stack: token vectors and their layout, and the attention weights of the requested layers.

    `attn_weights` (over the sequence itself) and `cross_attn_weights` (over the memory) map a layer's index to
    `batch heads queries keys`.
    """

    tokens: Float[Tensor, "*tokens d_model"]
    layout: Layout
    attn_weights: Mapping[int, Tensor] = MappingProxyType({})
    cross_attn_weights: Mapping[int, Tensor] = MappingProxyType({})

    def to_padded(self) -> Float[Tensor, "batch seq d_model"]:
        return self.layout.unpack(self.tokens)

    def at(self, position: Int[Tensor, "batch"]) -> Float[Tensor, "batch d_model"]:
        """One vector a sequence: that of sequence i at `position[i]` of the padded batch."""
        return self.gather(torch.arange(self.layout.batch, device=self.tokens.device), position)

    def gather(self, sequence: Int[Tensor, "n"], position: Int[Tensor, "n"]) -> Float[Tensor, "n d_model"]:
        """The vectors of these sequences at these positions of the padded batch, which must be real tokens."""
        return self.layout.gather(self.tokens, sequence, position)
