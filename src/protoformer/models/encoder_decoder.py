"""An encoder and a decoder that looks at what it gave (arXiv 1706.03762, section 3.1, figure 1).

One matrix embeds the words of both languages and, transposed, says what comes next (section 3.4). The stacks may be of any
kind that keeps to the interface of `EncoderStack` and `DecoderStack`. Step by step the decoder keeps what it has read, and of
the source the keys and values, which are made once.
"""

from collections.abc import Collection

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from protoformer.blocks.embeddings import Embeddings
from protoformer.blocks.kernels.cache import Cache, KeyValueCache
from protoformer.blocks.kernels.packing import HiddenStates, Layout, PackedLayout, PaddedLayout
from protoformer.models.backbone import PackingMode


class ReadSoFar:
    """What a decoder keeps of `rows` targets while they grow, and of the memories that each of them looks at."""

    def __init__(self, own: list[Cache], cross: list[KeyValueCache], memory: HiddenStates) -> None:
        self.own, self.cross = own, cross
        self.memory: HiddenStates | None = memory  # until it has been read once
        self.length = 0
        self.texts = torch.arange(memory.layout.batch, device=memory.tokens.device)  # the source of each row

    def select(self, rows: Int[Tensor, "chosen"]) -> None:
        """Keep these rows, in this order; one may be named several times. Rows of one source share its keys and values, so
        those are moved only where the sources of the rows change."""
        if torch.equal(rows, torch.arange(len(self.texts), device=rows.device)):
            return  # every row goes on as it is: so always where there is one beam
        for cache in self.own:
            cache.select(rows)
        texts = self.texts[rows]
        if not torch.equal(texts, self.texts):
            for cache in self.cross:
                cache.select(rows)
        self.texts = texts


class EncoderDecoder(nn.Module):
    """Source ids -> memory; target ids and memory -> hidden states -> logits of the next target token.

    `packing` is as in `Backbone`. `output_bias` adds one number a word to the logits (Marian's). Raises IndexError where a
    sequence is longer than the model's positions.
    """

    def __init__(
        self,
        embeddings: Embeddings,
        encoder: nn.Module,
        decoder: nn.Module,
        *,
        d_model: int,
        max_seq_len: int,
        dropout: float,
        packing: PackingMode = "auto",
        output_bias: bool = False,
    ) -> None:
        super().__init__()
        self.embeddings, self.encoder, self.decoder = embeddings, encoder, decoder
        self.bias = nn.Parameter(torch.zeros(embeddings.token.num_embeddings)) if output_bias else None
        self.d_model, self.max_seq_len, self.dropout, self.packing = d_model, max_seq_len, dropout, packing

    def encode(
        self,
        ids: Int[Tensor, "batch sources"],
        padding_mask: Bool[Tensor, "batch sources"],
        attn_layers: Collection[int] = (),
    ) -> HiddenStates:
        """The memory, with the attention weights of the layers whose indices are in `attn_layers`."""
        layout = self._layout(padding_mask)
        x = self.embeddings(layout.pack(ids), layout.positions(ids.device))
        return self.encoder(x, layout, attn_layers=attn_layers)

    def decode(
        self,
        ids: Int[Tensor, "batch targets"],
        padding_mask: Bool[Tensor, "batch targets"],
        memory: HiddenStates,
        attn_layers: Collection[int] = (),
    ) -> HiddenStates:
        """Hidden states that have seen the memory and the targets up to themselves, with attention weights as in `encode`."""
        layout = self._layout(padding_mask)
        x = self.embeddings(layout.pack(ids), layout.positions(ids.device))
        return self.decoder(x, layout, memory.tokens, memory.layout, attn_layers=attn_layers)

    def forward(
        self,
        source_ids: Int[Tensor, "batch sources"],
        source_mask: Bool[Tensor, "batch sources"],
        target_ids: Int[Tensor, "batch targets"],
        target_mask: Bool[Tensor, "batch targets"],
    ) -> HiddenStates:
        """Both one after the other."""
        return self.decode(target_ids, target_mask, self.encode(source_ids, source_mask))

    def logits(self, hidden: Float[Tensor, "*tokens d_model"]) -> Float[Tensor, "*tokens vocab"]:
        return functional.linear(hidden, self.embeddings.token.weight, self.bias)

    def begin(self, memory: HiddenStates, max_len: int) -> ReadSoFar:
        """Targets of up to `max_len` tokens, one for each row of the memory, of which nothing has been read yet."""
        rows, sources = memory.layout.batch, memory.layout.seq
        own = self.decoder.caches(rows, max_len, memory.tokens)  # type: ignore[operator]
        return ReadSoFar(own, self.decoder.cross_caches(rows, sources, memory.tokens), memory)  # type: ignore[operator]

    def read(self, ids: Int[Tensor, "rows new"], so_far: ReadSoFar) -> Float[Tensor, "rows new d_model"]:
        """The hidden states of tokens that follow what `so_far` holds, which they are added to."""
        rows, new = ids.shape
        self._check(so_far.length + new)
        layout = PaddedLayout(rows, new, None, so_far.length)
        memory, so_far.memory = so_far.memory, None
        positions = layout.positions(ids.device).expand(rows, new)
        hidden: HiddenStates = self.decoder(
            self.embeddings(ids, positions),
            layout,
            None if memory is None else memory.tokens,
            None if memory is None else memory.layout,
            caches=so_far.own,
            cross_caches=so_far.cross,
        )
        so_far.length += new
        return hidden.tokens

    def _layout(self, padding_mask: Bool[Tensor, "batch seq"]) -> Layout:
        batch, seq = padding_mask.shape
        self._check(seq)
        packed = self.packing == "on" or (self.packing == "auto" and not torch.compiler.is_compiling())
        return PackedLayout(padding_mask) if packed else PaddedLayout(batch, seq, padding_mask)

    def _check(self, seq: int) -> None:
        if seq > self.max_seq_len:
            raise IndexError(f"a sequence of {seq} tokens; the model has {self.max_seq_len} positions")
