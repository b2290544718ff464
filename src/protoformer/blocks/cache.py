"""Keys and values of what a decoder has already read, so that each new token costs one row of attention."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


class KeyValueCache:
    """One attention's keys and values, preallocated for `max_len` positions and written in place.

    Sequences of unequal length are padded in front; `padding_mask` remembers which keys are real.
    """

    def __init__(
        self,
        batch: int,
        n_heads: int,
        max_len: int,
        d_head: int,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        self.keys = torch.empty(batch, n_heads, max_len, d_head, dtype=dtype, device=device)
        self.values = torch.empty_like(self.keys)
        self.mask = torch.ones(batch, max_len, dtype=torch.bool, device=device)
        self.length = 0
        self.padded = False  # some key is padding

    def update(
        self,
        keys: Float[Tensor, "batch heads new d_head"],
        values: Float[Tensor, "batch heads new d_head"],
        padding_mask: Bool[Tensor, "batch new"] | None = None,
    ) -> tuple[Float[Tensor, "batch heads keys d_head"], Float[Tensor, "batch heads keys d_head"]]:
        """Append, and return views of all keys and values so far. Raises IndexError when the cache is full."""
        end = self.length + keys.shape[2]
        if end > self.keys.shape[2]:
            raise IndexError(f"the cache holds {self.keys.shape[2]} positions; {end} were asked of it")
        self.keys[:, :, self.length : end] = keys
        self.values[:, :, self.length : end] = values
        if padding_mask is not None:
            self.mask[:, self.length : end] = padding_mask
            self.padded = True
        self.length = end
        return self.keys[:, :, :end], self.values[:, :, :end]

    def select(self, rows: Int[Tensor, "chosen"]) -> None:
        """Keep these rows, in this order; one may be named several times."""
        if len(rows) == len(self.keys):
            for held in (self.keys, self.values):
                held[:, :, : self.length] = held[rows, :, : self.length]
        else:
            self.keys, self.values = self.keys[rows], self.values[rows]
        self.mask = self.mask[rows]

    @property
    def padding_mask(self) -> Bool[Tensor, "batch keys"] | None:
        """Of all keys so far; None where all of them are real."""
        return self.mask[:, : self.length] if self.padded else None
