"""Layout of sequences that share prefixes: each token of a prefix is in the batch once, and tokens attend to their ancestors.

The tokens of a batch are nodes of trees. A node's position is its depth, its keys are those of its ancestors and its own. So a
prefix costs its length once, whatever the number of sequences that begin with it, and no keys are copied for them.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from protoformer.blocks.kernels.packing import PaddedLayout


class TreeLayout(PaddedLayout):
    """One row of new tokens after a cached path of `cached` tokens, in pre-order: parents stand before their children.

    The tokens are chains, each a list of tokens of which every one is the parent of the next. Chain i has `lengths[i]` tokens,
    and its first one is at depth `branches[i]`: it follows the first `branches[i]` tokens of the sequence that ends with chain
    i - 1 (the cached path, for the first chain).
    """

    def __init__(self, cached: int, branches: Sequence[int], lengths: Sequence[int], device: torch.device) -> None:
        super().__init__(1, sum(lengths), offset=cached)
        self.cached = cached
        self._masks: dict[int | None, Bool[Tensor, "new keys"]] = {}
        keys = cached + self.seq
        ancestors = torch.zeros(self.seq, keys, dtype=torch.bool)
        depths = torch.empty(keys, dtype=torch.long)
        depths[:cached] = torch.arange(cached)
        path = torch.arange(cached)  # keys of the current sequence by depth: of the cache, then of the new tokens
        first = 0
        for branch, length in zip(branches, lengths, strict=True):
            own = torch.arange(cached + first, cached + first + length)
            path = torch.cat([path[:branch], own])
            rows = ancestors[first : first + length]
            rows[:, path[:branch]] = True
            rows[:, own] = torch.ones(length, length, dtype=torch.bool).tril()
            depths[own] = torch.arange(branch, branch + length)
            first += length
        self.path = path.to(device)
        self.ancestors, self.depths = ancestors.to(device), depths.to(device)

    def positions(self, device: torch.device) -> Int[Tensor, "1 new"]:
        """Depths: positions in the sequences that a token is part of."""
        return self.depths[None, self.cached :].to(device)

    def attention_mask(self, window: int | None = None) -> Bool[Tensor, "new keys"]:
        """A token's ancestors and the token itself; with a window those that are less than `window` positions before it."""
        if window not in self._masks:  # shared by all layers
            allowed = self.ancestors
            if window is not None:
                allowed = allowed & (self.depths[self.cached :, None] - self.depths < window)
            self._masks[window] = allowed
        return self._masks[window]
