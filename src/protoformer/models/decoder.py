"""A decoder alone (Radford et al. 2018, section 3.1): a backbone that reads from left to right, and says what comes next by
the matrix of its own token embedding.

Step by step it keeps what it has read: `caches` makes room once, and `read` writes into it in place, the prompt in one pass
and then token by token. The room is all that decoding needs besides the weights: of GPT-2 small, 2 x 768 numbers a layer and
position, or 72 KiB a token in float32; nothing is copied as a text grows.
"""

from jaxtyping import Bool, Float, Int
from torch import Tensor

from protoformer.blocks.kernels import fast_decode
from protoformer.blocks.kernels.cache import Cache
from protoformer.blocks.kernels.packing import PaddedLayout
from protoformer.blocks.stacks import DecoderStack
from protoformer.models.backbone import Backbone


class Decoder(Backbone):
    """ids -> hidden states -> logits of the next token."""

    causal = True
    stack: DecoderStack

    def logits(self, hidden: Float[Tensor, "*tokens d_model"]) -> Float[Tensor, "*tokens vocab"]:
        return fast_decode.linear(hidden, self.embeddings.token.weight)

    def caches(self, batch: int, max_len: int) -> list[Cache]:
        """One a layer, each for `max_len` positions."""
        return self.stack.caches(batch, max_len, self.embeddings.token.weight)

    def read(
        self,
        ids: Int[Tensor, "batch new"],
        caches: list[Cache],
        padding_mask: Bool[Tensor, "batch new"] | None = None,
    ) -> Float[Tensor, "batch new d_model"]:
        """The hidden states of tokens that follow what `caches` hold, which they are added to.

        Rows of unequal length are padded in front in the first call. Raises IndexError beyond the model's positions or the
        caches' room.
        """
        known = caches[0].padding_mask
        first = caches[0].length if known is None else known.sum(1)
        longest = ids.shape[1] + (first if isinstance(first, int) else int(first.max()))
        if longest > self.max_seq_len:
            raise IndexError(f"{longest} tokens; the model has {self.max_seq_len} positions")
        if ids.shape[1] == 1 and padding_mask is None and self.stack.supports_fast_decode(ids.device):
            positions = first if isinstance(first, Tensor) else ids.new_full((len(ids),), first)
            return self.stack.decode_step(self.embeddings(ids[:, 0], positions), positions, caches)[:, None]
        layout = PaddedLayout(ids.shape[0], ids.shape[1], padding_mask, first)
        x = self.embeddings(ids, layout.positions(ids.device))
        return self.stack(x, layout, caches=caches).tokens
