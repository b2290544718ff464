"""A decoder-only language model with tied input and output embeddings (Radford et al. 2018, section 3.1), or an output matrix
of its own.

Decoding over a cache: `caches` allocates keys and values for all positions once, and `decode_step` writes new tokens into them
in place, a prompt in one pass and then token by token. Besides the weights that is all the memory decoding takes: for GPT-2
small 2 x 768 numbers a layer and position, or 72 KiB a token in float32. Nothing is copied as a text grows.
"""

from collections.abc import Sequence
from typing import Any

from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from protoformer.blocks.kernels import fast_decode
from protoformer.blocks.kernels.cache import Cache, KeyValueCache
from protoformer.blocks.kernels.packing import PaddedLayout
from protoformer.blocks.kernels.tree_layout import TreeLayout
from protoformer.blocks.stacks import DecoderStack
from protoformer.models.backbone import Backbone


class Decoder(Backbone):
    """ids -> hidden states -> logits of the next token."""

    causal = True
    stack: DecoderStack

    def __init__(self, *parts: Any, **settings: Any) -> None:
        """As `Backbone`."""
        super().__init__(*parts, **settings)
        vocab_size = self.embeddings.token.num_embeddings
        self.output = None if self.tie_word_embeddings else nn.Linear(self.d_model, vocab_size, bias=False)

    @property
    def output_weight(self) -> Float[Tensor, "vocab d_model"]:
        """The matrix from hidden states to logits: the token embedding, or the model's own."""
        return self.embeddings.token.weight if self.output is None else self.output.weight

    def logits(self, hidden: Float[Tensor, "*tokens d_model"]) -> Float[Tensor, "*tokens vocab"]:
        return fast_decode.linear(hidden, self.output_weight)

    def init_caches(self, batch: int, max_len: int) -> list[Cache]:
        """One cache a layer, each for `max_len` positions."""
        return self.stack.init_caches(batch, max_len, self.embeddings.token.weight)

    def decode_step(
        self,
        ids: Int[Tensor, "batch new"],
        caches: list[Cache],
        padding_mask: Bool[Tensor, "batch new"] | None = None,
    ) -> Float[Tensor, "batch new d_model"]:
        """Hidden states of new tokens, which attend to those in `caches` and are added to them.

        Rows of unequal length are padded on the left, in the first call. Raises IndexError beyond the model's positions or the
        caches' capacity.
        """
        cached_mask = caches[0].padding_mask
        # real tokens in the cache: one number for all rows, or one a row where prompts were padded
        offset = caches[0].length if cached_mask is None else cached_mask.sum(1)
        length = ids.shape[1] + (offset if isinstance(offset, int) else int(offset.max()))
        if length > self.max_seq_len:
            raise IndexError(f"{length} tokens; the model has {self.max_seq_len} positions")
        if ids.shape[1] == 1 and padding_mask is None and self.stack.supports_fast_decode(ids.device):
            # one token a row: the stack's short path, without an axis of positions
            positions = offset if isinstance(offset, Tensor) else ids.new_full((len(ids),), offset)
            return self.stack.decode_step(self.embeddings(ids[:, 0], positions), positions, caches)[:, None]
        layout = PaddedLayout(ids.shape[0], ids.shape[1], padding_mask, offset)
        x = self.embeddings(ids, layout.positions(ids.device))
        return self.stack(x, layout, caches=caches).tokens

    def tree_step(
        self, ids: Int[Tensor, "new"], layout: TreeLayout, caches: Sequence[KeyValueCache]
    ) -> Float[Tensor, "new d_model"]:
        """Hidden states of new tokens that form trees behind the path in `caches`; they are added to the caches.

        For models whose caches hold keys and values. Raises IndexError beyond the model's positions or the caches' capacity.
        """
        deepest = int(layout.depths.max()) + 1
        if deepest > self.max_seq_len:
            raise IndexError(f"{deepest} tokens; the model has {self.max_seq_len} positions")
        x = self.embeddings(ids[None], layout.positions(ids.device))
        return self.stack(x, layout, caches=caches).tokens[0]
