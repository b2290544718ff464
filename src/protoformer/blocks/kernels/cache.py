"""Decoding caches: keys and values, or recurrent states, of the tokens read so far, so that a new token costs one step."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


class Cache:
    """One layer's cache of `batch` sequences, with a capacity of `max_len` tokens each.

    Prompts of unequal length are padded on the left; `padding_mask` is True on the real tokens.
    """

    def __init__(self, batch: int, max_len: int, device: torch.device | str = "cpu") -> None:
        # True = real token, as every padding mask
        self.mask = torch.ones(batch, max_len, dtype=torch.bool, device=device)
        # the same for all sequences: shorter ones are padded
        self.length = 0
        self.has_padding = False

    def advance(self, new: int, padding_mask: Bool[Tensor, "batch new"] | None = None) -> int:
        """Count `new` tokens and return the new length. Raises IndexError when the cache is full."""
        end, capacity = self.length + new, self.mask.shape[1]
        if end > capacity:
            raise IndexError(f"the cache holds {capacity} positions; {end} were requested")
        if padding_mask is not None:
            # without a mask the new tokens are real, which is what the buffer is filled with
            self.mask[:, self.length : end] = padding_mask
            self.has_padding = True
        self.length = end
        return end

    def select(self, sequences: Int[Tensor, "selected"]) -> None:
        """Keep these sequences, in this order; an index may occur several times."""
        # beam search drops, copies and exchanges hypotheses
        self.mask = self.mask[sequences]

    @property
    def padding_mask(self) -> Bool[Tensor, "batch tokens"] | None:
        """True on the real ones of all tokens so far; None where all of them are real."""
        return self.mask[:, : self.length] if self.has_padding else None


class KeyValueCache(Cache):
    """One attention's keys and values, preallocated for `max_len` positions and written in place.

    `widths` are those of a head's keys and of its values.
    """

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
            # heads before positions, so that attention reads each head's keys in one stretch
            torch.empty(batch, n_heads, max_len, width, dtype=dtype, device=device)
            for width in widths
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
        # in place: concatenation would copy all keys and values in every step
        self.keys[:, :, begin:end] = keys
        self.values[:, :, begin:end] = values
        return self.kv()

    def kv(self) -> tuple[Float[Tensor, "batch heads keys d_key"], Float[Tensor, "batch heads keys d_head"]]:
        """Views of all keys and values so far."""
        return self.keys[:, :, : self.length], self.values[:, :, : self.length]

    def keep(self, first: int, others: Int[Tensor, "others"]) -> None:
        """Keep the keys and values of the `first` tokens, and of these others behind them, in this order."""
        self.length = first + len(others)
        for buffer in (self.keys, self.values):
            buffer[:, :, first : self.length] = buffer[:, :, others]

    def select(self, sequences: Int[Tensor, "selected"]) -> None:
        """Keep these sequences, in this order; an index may occur several times."""
        if len(sequences) == len(self.keys):  # no new memory, and only the filled part is moved
            for buffer in (self.keys, self.values):
                buffer[:, :, : self.length] = buffer[sequences, :, : self.length]
        else:
            # fewer sequences or more: new buffers
            self.keys, self.values = self.keys[sequences], self.values[sequences]
        super().select(sequences)


class StateCache(Cache):
    """A state of fixed size: an RNN's last hidden state, or a causal convolution's last (kernel - 1) x dilation inputs.

    `state` is empty before the first token; its tensors have the batch as their first axis.
    """

    def __init__(self, batch: int, max_len: int, device: torch.device | str = "cpu") -> None:
        super().__init__(batch, max_len, device)
        self.state: tuple[Tensor, ...] = ()

    def select(self, sequences: Int[Tensor, "selected"]) -> None:
        """Keep these sequences, in this order; an index may occur several times."""
        # (batch, ...) each: a state has no axis of positions
        self.state = tuple(part[sequences] for part in self.state)
        super().select(sequences)
