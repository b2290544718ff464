"""What a decoder keeps of what it has already read, so that each new token costs one step."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


class Cache:
    """What one layer keeps of `batch` sequences, with room for `max_len` tokens each.

    Sequences of unequal length are padded in front; `padding_mask` remembers which of the tokens are real.
    """

    def __init__(self, batch: int, max_len: int, device: torch.device | str = "cpu") -> None:
        self.mask = torch.ones(batch, max_len, dtype=torch.bool, device=device)
        self.length = 0
        self.padded = False  # some token is padding

    def advance(self, new: int, padding_mask: Bool[Tensor, "batch new"] | None = None) -> int:
        """Count new tokens, and give the length that comes of it. Raises IndexError when the cache is full."""
        end, room = self.length + new, self.mask.shape[1]
        if end > room:
            raise IndexError(f"the cache holds {room} positions; {end} were asked of it")
        if padding_mask is not None:
            self.mask[:, self.length : end] = padding_mask
            self.padded = True
        self.length = end
        return end

    def select(self, rows: Int[Tensor, "chosen"]) -> None:
        """Keep these rows, in this order; one may be named several times."""
        self.mask = self.mask[rows]

    @property
    def padding_mask(self) -> Bool[Tensor, "batch tokens"] | None:
        """Of all tokens so far; None where all of them are real."""
        return self.mask[:, : self.length] if self.padded else None


class KeyValueCache(Cache):
    """One attention's keys and values, preallocated for `max_len` positions and written in place. `widths` are theirs."""

    def __init__(
        self,
        batch: int,
        n_heads: int,
        max_len: int,
        widths: tuple[int, int],
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__(batch, max_len, device)
        self.keys, self.values = (
            torch.empty(batch, n_heads, max_len, width, dtype=dtype, device=device) for width in widths
        )

    def update(
        self,
        keys: Float[Tensor, "batch heads new d_key"],
        values: Float[Tensor, "batch heads new d_head"],
        padding_mask: Bool[Tensor, "batch new"] | None = None,
    ) -> tuple[Float[Tensor, "batch heads keys d_key"], Float[Tensor, "batch heads keys d_head"]]:
        """Append, and return views of all keys and values so far. Raises IndexError when the cache is full."""
        begin = self.length
        end = self.advance(keys.shape[2], padding_mask)
        self.keys[:, :, begin:end] = keys
        self.values[:, :, begin:end] = values
        return self.known()

    def known(self) -> tuple[Float[Tensor, "batch heads keys d_key"], Float[Tensor, "batch heads keys d_head"]]:
        """Views of all keys and values so far."""
        return self.keys[:, :, : self.length], self.values[:, :, : self.length]

    def select(self, rows: Int[Tensor, "chosen"]) -> None:
        """Keep these rows, in this order; one may be named several times."""
        if len(rows) == len(self.keys):
            for held in (self.keys, self.values):
                held[:, :, : self.length] = held[rows, :, : self.length]
        else:
            self.keys, self.values = self.keys[rows], self.values[rows]
        super().select(rows)


class StateCache(Cache):
    """Where a layer stands that keeps no more of a text than a state of fixed size: a recurrent layer its last one, a
    convolution its last inputs. `state` is empty until something has been read; each of its tensors has a row a sequence."""

    def __init__(self, batch: int, max_len: int, device: torch.device | str = "cpu") -> None:
        super().__init__(batch, max_len, device)
        self.state: tuple[Tensor, ...] = ()

    def select(self, rows: Int[Tensor, "chosen"]) -> None:
        """Keep these rows, in this order; one may be named several times."""
        self.state = tuple(part[rows] for part in self.state)
        super().select(rows)
