"""One path of tokens that a model has read, from which trees of tokens are continued.

A model of attention keeps the path's keys and values, which are cut back to any depth. A recurrent or convolutional model keeps
its states at the depths where sequences branch.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, cast

import torch
from jaxtyping import Float
from torch import Tensor

from protoformer.blocks.kernels.cache import Cache, KeyValueCache, StateCache
from protoformer.blocks.kernels.tree_layout import TreeLayout
from protoformer.models.decoder import Decoder


@dataclass(frozen=True)
class Chain:
    """Tokens of a sequence behind the first `branch` tokens of the sequence before it."""

    branch: int
    ids: Sequence[int]


class PathModel(Protocol):
    """A model with the state of one path of tokens, from which trees of tokens can be continued."""

    def run(self, chains: Sequence[Chain]) -> Float[Tensor, "new d_model"]:
        """Hidden states of the tokens of chains. The path becomes that of the last chain."""
        ...


def path_model(model: Decoder, tokens_per_pass: int) -> PathModel:
    """The path of a model, empty, that takes at most so many tokens at once."""
    if all(isinstance(cache, KeyValueCache) for cache in model.init_caches(1, 1)):
        return KeyValuePath(model, tokens_per_pass)
    return StatePath(model)


class KeyValuePath:
    """A model of attention: the keys and values of the path, and of one pass."""

    def __init__(self, model: Decoder, tokens_per_pass: int) -> None:
        self.model = model
        capacity = model.max_seq_len + tokens_per_pass
        self.caches = cast(list[KeyValueCache], model.init_caches(1, capacity))

    def run(self, chains: Sequence[Chain]) -> Float[Tensor, "new d_model"]:
        """As `PathModel.run`."""
        device = self.model.output_weight.device
        cached = chains[0].branch
        nothing = torch.empty(0, dtype=torch.long, device=device)
        for cache in self.caches:  # back to where the first chain branches off
            cache.keep(cached, nothing)
        layout = TreeLayout(cached, [each.branch for each in chains], [len(each.ids) for each in chains], device)
        ids = torch.tensor([token for chain in chains for token in chain.ids], device=device)
        hidden = self.model.tree_step(ids, layout, self.caches)
        # the last sequence alone: what it has of the cached path stays where it is
        unchanged = int((layout.path < cached).sum())
        for cache in self.caches:
            cache.keep(unchanged, layout.path[unchanged:])
        return hidden


class StatePath:
    """A model with a state of fixed size, recurrent or convolutional: the states behind tokens at which sequences branch.

    A state cannot be cut back, so it is copied at each depth where a later chain of the pass begins, and at the path's end.
    """

    def __init__(self, model: Decoder) -> None:
        self.model = model
        self.ids: list[int] = []
        self.states: dict[int, list[StateCache]] = {}  # depth -> states of all layers behind so many tokens

    def run(self, chains: Sequence[Chain]) -> Float[Tensor, "new d_model"]:
        """As `PathModel.run`."""
        hidden = []
        for number, chain in enumerate(chains):
            self.ids = self.ids[: chain.branch]
            self.states = {depth: caches for depth, caches in self.states.items() if depth <= chain.branch}
            start = max(self.states, default=0)
            # without a copy at the branch itself the tokens since the last one are run again
            tokens = [*self.ids[start:], *chain.ids]
            outputs = [self._step(part, start) for start, part in self._parts(tokens, start, chains[number + 1 :])]
            hidden.append(torch.cat(outputs)[chain.branch - start :])
            self.ids += chain.ids
        return torch.cat(hidden)

    def _parts(self, tokens: Sequence[int], start: int, later: Sequence[Chain]) -> Iterator[tuple[int, Sequence[int]]]:
        """Tokens cut where later chains branch off before the sequence is left."""
        end = start + len(tokens)
        cuts, limit = {end}, end
        for chain in later:
            limit = min(limit, chain.branch)
            if limit <= start:
                break
            cuts.add(limit)
        first = start
        for cut in sorted(cuts):
            if cut > first:
                yield first, tokens[first - start : cut - start]
                first = cut

    def _step(self, tokens: Sequence[int], start: int) -> Float[Tensor, "tokens d_model"]:
        """Hidden states of tokens behind the copy at `start`; a copy of the states behind them is kept."""
        ids = torch.tensor([list(tokens)], device=self.model.output_weight.device)
        caches = [_copy(cache) for cache in self.states[start]] if start else self._empty()
        hidden = self.model.decode_step(ids, cast(list[Cache], caches))[0]
        self.states[start + len(tokens)] = caches
        return hidden

    def _empty(self) -> list[StateCache]:
        return cast(list[StateCache], self.model.init_caches(1, self.model.max_seq_len))


def _copy(cache: StateCache) -> StateCache:
    batch, max_len = cache.mask.shape
    copied = StateCache(batch, max_len, cache.mask.device)
    copied.length, copied.state = cache.length, tuple(part.clone() for part in cache.state)
    return copied
