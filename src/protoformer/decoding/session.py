"""Reading with a memory: what decoding asks of a model, and a decoder's answer to it."""

from collections.abc import Sequence
from typing import Protocol

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from protoformer.blocks.kernels.cache import Cache
from protoformer.models.decoder import Decoder


class Reader(Protocol):
    """Rows of text that are read on: each call adds tokens to all of them and gives the logits of what comes next."""

    def read(
        self, ids: Int[Tensor, "rows new"], padding_mask: Bool[Tensor, "rows new"] | None = None
    ) -> Float[Tensor, "rows vocab"]: ...

    def select(self, rows: Int[Tensor, "chosen"]) -> None:
        """From now on these rows, in this order; one may be named several times."""
        ...


class DecoderReader:
    """A decoder and the caches of `rows` texts, with room for `max_len` tokens each."""

    def __init__(self, model: Decoder, rows: int, max_len: int) -> None:
        self.model = model
        self.caches: list[Cache] = model.caches(rows, max_len)

    def read(
        self, ids: Int[Tensor, "rows new"], padding_mask: Bool[Tensor, "rows new"] | None = None
    ) -> Float[Tensor, "rows vocab"]:
        """Padding stands in front, and in the first call only."""
        hidden = self.model.read(ids, self.caches, padding_mask)
        return self.model.logits(hidden[:, -1])

    def select(self, rows: Int[Tensor, "chosen"]) -> None:
        for cache in self.caches:
            cache.select(rows)


def side_by_side(
    texts: Sequence[Sequence[int]], device: torch.device | None = None
) -> tuple[Int[Tensor, "rows longest"], Bool[Tensor, "rows longest"] | None]:
    """Texts of unequal length with padding in front, and which of it is real (None: all)."""
    longest = max(map(len, texts))
    ids = torch.tensor([[0] * (longest - len(text)) + list(text) for text in texts], device=device)
    if all(len(text) == longest for text in texts):
        return ids, None
    lengths = torch.tensor([len(text) for text in texts], device=device)
    return ids, torch.arange(longest, device=device) >= longest - lengths[:, None]
