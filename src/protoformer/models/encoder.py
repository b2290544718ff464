"""An encoder as a whole: embeddings, a stack of layers, a pooler. Rectangles come in; what runs inside may be packed."""

from collections.abc import Collection
from typing import Literal

import torch
from jaxtyping import Bool, Int
from torch import Tensor, nn

from protoformer.blocks.embeddings import Embeddings
from protoformer.blocks.feed_forward import Activation
from protoformer.blocks.packing import Hidden, Layout, Packing, Rectangle
from protoformer.blocks.recurrent import BiLSTM
from protoformer.blocks.stacks import EncoderStack


class Encoder(nn.Module):
    """ids -> hidden states, by way of `top` where there is one.

    `packing="on"` runs token-wise work on real tokens alone, "off" on the rectangle with its padding; "auto" packs unless
    the graph is being compiled, which wants fixed shapes. Both give the same numbers to float tolerance.
    """

    def __init__(
        self,
        embeddings: Embeddings,
        stack: EncoderStack,
        pooler: nn.Module,
        *,
        d_model: int,
        max_seq_len: int,
        dropout: float,
        packing: Literal["auto", "on", "off"] = "auto",
        activation: Activation = "gelu",
        norm_eps: float = 1e-12,
        causal: bool = False,
        top: BiLSTM | None = None,
    ) -> None:
        super().__init__()
        self.embeddings, self.stack, self.pooler, self.top = embeddings, stack, pooler, top
        self.causal = causal
        self.activation: Activation = activation  # these two for heads that are built alike
        self.norm_eps = norm_eps
        self.d_model, self.max_seq_len, self.dropout, self.packing = d_model, max_seq_len, dropout, packing

    def layout(self, padding_mask: Bool[Tensor, "batch seq"]) -> Layout:
        batch, seq = padding_mask.shape
        packed = self.packing == "on" or (self.packing == "auto" and not torch.compiler.is_compiling())
        return Packing(padding_mask) if packed else Rectangle(batch, seq, padding_mask)

    def forward(
        self,
        ids: Int[Tensor, "batch seq"],
        padding_mask: Bool[Tensor, "batch seq"],
        segment_ids: Int[Tensor, "batch seq"] | None = None,
        weights: dict[int, Tensor] | None = None,
        weights_of: Collection[int] = (),
    ) -> Hidden:
        """Raises IndexError when a sequence is longer than the model's positions."""
        if ids.shape[1] > self.max_seq_len:
            raise IndexError(f"a sequence of {ids.shape[1]} tokens; the model has {self.max_seq_len} positions")
        layout = self.layout(padding_mask)
        x = self.embeddings(
            layout.pack(ids),
            layout.positions(ids.device),
            None if segment_ids is None else layout.pack(segment_ids),
        )
        x = self.stack(x, layout, weights, weights_of)
        return Hidden(x if self.top is None else self.top(x, layout), layout)
