"""Incremental decoding: one interface over the models' key/value caches, and left padding of prompts."""

from collections.abc import Collection, Sequence
from typing import Protocol

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from protoformer.blocks.kernels.cache import Cache
from protoformer.distributed.backends import disable_cudnn_attention
from protoformer.models.decoder import Decoder


class DecodingSession(Protocol):
    """A batch of sequences that is decoded step by step, with what the model has cached of them."""

    def step(
        self, ids: Int[Tensor, "rows new"], padding_mask: Bool[Tensor, "rows new"] | None = None
    ) -> Float[Tensor, "rows vocab"]:
        """Append `new` tokens to each row; the logits of the token after them."""
        ...

    def select(self, rows: Int[Tensor, "selected"]) -> None:
        """Keep these rows of the batch, in this order. A row may be named several times (beams of one parent)."""
        ...


class Suppression:
    """Sets the logits of some tokens to -inf, so that they are never generated."""

    def __init__(self, ids: Collection[int], device: torch.device) -> None:
        self.ids = torch.tensor(sorted(ids), dtype=torch.long, device=device)

    def __call__(self, logits: Float[Tensor, "rows vocab"]) -> Float[Tensor, "rows vocab"]:
        return logits if not len(self.ids) else logits.index_fill(-1, self.ids, -torch.inf)


class DecoderSession:
    """A decoder with caches for `rows` sequences of up to `max_len` tokens each. `suppressed_ids` are never generated."""

    def __init__(self, model: Decoder, rows: int, max_len: int, suppressed_ids: Collection[int] = ()) -> None:
        disable_cudnn_attention()
        self.model = model
        self.suppress = Suppression(suppressed_ids, model.embeddings.token.weight.device)
        self.caches: list[Cache] = model.init_caches(rows, max_len)

    def step(
        self, ids: Int[Tensor, "rows new"], padding_mask: Bool[Tensor, "rows new"] | None = None
    ) -> Float[Tensor, "rows vocab"]:
        """Padding stands on the left, and in the first call only."""
        hidden = self.model.decode_step(ids, self.caches, padding_mask)  # (rows, new, d_model)
        return self.suppress(self.model.logits(hidden[:, -1]))

    def select(self, rows: Int[Tensor, "selected"]) -> None:
        for cache in self.caches:
            cache.select(rows)


def left_pad(
    sequences: Sequence[Sequence[int]], device: torch.device | None = None
) -> tuple[Int[Tensor, "rows longest"], Bool[Tensor, "rows longest"] | None]:
    """Token ids padded on the left, and their padding mask (True: a token). The mask is None where nothing was padded."""
    longest = max(map(len, sequences))
    ids = torch.tensor([[0] * (longest - len(tokens)) + list(tokens) for tokens in sequences], device=device)
    if all(len(tokens) == longest for tokens in sequences):
        return ids, None
    lengths = torch.tensor([len(tokens) for tokens in sequences], device=device)
    return ids, torch.arange(longest, device=device) >= longest - lengths[:, None]
