"""Layouts of a batch: a rectangle with padding, or its real tokens concatenated.

Token-wise work (embeddings, projections, feed-forward, norms, heads) does not care which it gets; attention asks the
layout which tokens belong together. A model packs on entry and unpacks on exit, so the batch contract stays rectangular.
"""

from itertools import accumulate
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor


class Rectangle:
    """`batch seq`, padding included; `padding_mask` None means that there is none.

    `first` is the position of a row's first real token: 0, or with a key/value cache the number of real tokens that the
    cache already holds, which differs from row to row where prefixes of unequal length were padded.
    """

    def __init__(
        self,
        batch: int,
        seq: int,
        padding_mask: Bool[Tensor, "batch seq"] | None = None,
        first: int | Int[Tensor, "batch"] = 0,
    ) -> None:
        self.batch, self.seq, self.padding_mask, self.first = batch, seq, padding_mask, first

    def pack(self, rectangle: Shaped[Tensor, "batch seq *rest"]) -> Shaped[Tensor, "batch seq *rest"]:
        return rectangle

    def unpack(self, tokens: Shaped[Tensor, "batch seq *rest"]) -> Shaped[Tensor, "batch seq *rest"]:
        return tokens

    def positions(self, device: torch.device) -> Int[Tensor, "#batch seq"]:
        """Each token's position in its own sequence (padding in front does not count)."""
        first = self.first if isinstance(self.first, int) else self.first.to(device)[:, None]
        if self.padding_mask is None:
            return torch.arange(self.seq, device=device)[None] + first
        return (self.padding_mask.cumsum(1) - 1).clamp_min(0) + first

    def pick(
        self, tokens: Float[Tensor, "batch seq d_model"], row: Int[Tensor, "picked"], column: Int[Tensor, "picked"]
    ) -> Float[Tensor, "picked d_model"]:
        """The vectors at these places of the rectangle."""
        return tokens[row, column]


class Packing:
    """`tokens`: the real tokens of a rectangle, sequence after sequence."""

    def __init__(self, padding_mask: Bool[Tensor, "batch seq"]) -> None:
        self.batch, self.seq = padding_mask.shape
        self.padding_mask = padding_mask
        self.index = padding_mask.flatten().nonzero().squeeze(1)
        self.lengths: list[int] = padding_mask.sum(1).tolist()
        self._starts: list[int] = [0, *accumulate(self.lengths)]
        self.blocks: dict[Any, Any] = {}  # what attention has worked out for this batch

    def groups(self, longest_grouped: int) -> list[list[int]]:
        """Sequences of like length together: the shortest of a group is at most 8 tokens or 15 % below its longest.

        Sequences longer than `longest_grouped` stay alone.
        """
        order = sorted(range(self.batch), key=lambda i: -self.lengths[i])
        groups: list[list[int]] = []
        for i in order:
            longest = self.lengths[groups[-1][0]] if groups else 0
            if groups and longest <= longest_grouped and longest - self.lengths[i] <= max(8, 0.15 * longest):
                groups[-1].append(i)
            else:
                groups.append([i])
        return groups

    def place(self, sequence: int) -> slice:
        """Where the tokens of one sequence stand."""
        return slice(self._starts[sequence], self._starts[sequence + 1])

    def block(self, sequences: list[int]) -> tuple[Int[Tensor, "group longest"], Bool[Tensor, "group longest"] | None]:
        """Where a group's tokens stand, as a small rectangle, and which of it is real (None: all)."""
        lengths = [self.lengths[i] for i in sequences]
        longest = max(lengths)
        starts = torch.tensor([self._starts[i] for i in sequences], device=self.index.device)
        columns = torch.arange(longest, device=self.index.device)
        if min(lengths) == longest:
            return starts[:, None] + columns, None
        real = columns < torch.tensor(lengths, device=self.index.device)[:, None]
        # what is not real points at some token that is there: an empty sequence at the end has none of its own
        spare = starts.clamp_max(self._starts[-1] - 1)[:, None]
        return torch.where(real, starts[:, None] + columns, spare), real

    def pack(self, rectangle: Shaped[Tensor, "batch seq *rest"]) -> Shaped[Tensor, "tokens *rest"]:
        return rectangle.flatten(0, 1).index_select(0, self.index)

    def unpack(self, tokens: Shaped[Tensor, "tokens *rest"]) -> Shaped[Tensor, "batch seq *rest"]:
        """Padding becomes zero."""
        rest = tokens.shape[1:]
        rectangle = tokens.new_zeros(self.batch * self.seq, *rest).index_copy(0, self.index, tokens)
        return rectangle.view(self.batch, self.seq, *rest)

    def positions(self, device: torch.device) -> Int[Tensor, "tokens"]:
        return self.pack(self.padding_mask.cumsum(1) - 1)

    def pick(
        self, tokens: Float[Tensor, "tokens d_model"], row: Int[Tensor, "picked"], column: Int[Tensor, "picked"]
    ) -> Float[Tensor, "picked d_model"]:
        """As in a rectangle; the places must hold real tokens."""
        place = (self.padding_mask.flatten().cumsum(0) - 1).view(self.batch, self.seq)
        return tokens.index_select(0, place[row, column])


Layout = Rectangle | Packing


class Hidden(NamedTuple):
    """What a stack gives: token vectors and the layout they lie in."""

    tokens: Float[Tensor, "*tokens d_model"]
    layout: Layout

    def rectangle(self) -> Float[Tensor, "batch seq d_model"]:
        return self.layout.unpack(self.tokens)

    def at(self, position: Int[Tensor, "batch"]) -> Float[Tensor, "batch d_model"]:
        """One vector a sequence: the one at column `position` of the rectangle."""
        return self.pick(torch.arange(self.layout.batch, device=self.tokens.device), position)

    def pick(self, row: Int[Tensor, "picked"], column: Int[Tensor, "picked"]) -> Float[Tensor, "picked d_model"]:
        """The vectors at these places of the rectangle, which must hold real tokens."""
        return self.layout.pick(self.tokens, row, column)
