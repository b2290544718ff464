"""Encoder-decoder with cross-attention (arXiv 1706.03762, section 3.1, figure 1).

One matrix embeds the tokens of both languages and, transposed, is the output layer (section 3.4). The layers of both
stacks may be of any kind (see `blocks.interfaces`). Decoding step by step caches the keys and values of the targets, and those
of the memory, which are computed once.
"""

from collections.abc import Collection
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from protoformer.blocks.embeddings import Embeddings
from protoformer.blocks.kernels.cache import Cache, KeyValueCache
from protoformer.blocks.kernels.packing import HiddenStates, Layout, PaddedLayout, SequenceLengths
from protoformer.blocks.stacks import DecoderStack, EncoderStack
from protoformer.models.backbone import PackingMode, build_layout, check_length
from protoformer.models.encoder import Encoder
from protoformer.models.poolers import MeanPooler


class DecoderState:
    """What decoding keeps of `rows` growing targets: their caches, and the memory that each row attends to."""

    def __init__(self, caches: list[Cache], cross_caches: list[KeyValueCache], memory: HiddenStates) -> None:
        self.caches, self.cross_caches = caches, cross_caches
        self.memory: HiddenStates | None = memory  # until the first step, which puts it into the cross caches
        self.length = 0
        self.source_index = torch.arange(memory.layout.batch, device=memory.tokens.device)  # the source of each row

    def select(self, rows: Int[Tensor, "chosen"]) -> None:
        """Keep these rows, in this order; a row may be named several times.

        Rows of one source share its keys and values, so those are moved only where the sources of the rows change.
        """
        if torch.equal(rows, torch.arange(len(self.source_index), device=rows.device)):
            return  # every row stays: always so with one beam
        for cache in self.caches:
            cache.select(rows)
        source_index = self.source_index[rows]
        if not torch.equal(source_index, self.source_index):
            for cache in self.cross_caches:
                cache.select(rows)
        self.source_index = source_index


class EncoderDecoder(nn.Module):
    """Source ids -> memory; target ids and memory -> hidden states -> logits of the next target token.

    `packing` is as in `Backbone`. `output_bias` adds a bias to the logits (Marian's). Without `target_embeddings` targets are
    embedded as sources are; with `tie_word_embeddings` false the output matrix is not the targets' embedding. Raises IndexError
    where a sequence is longer than the model's positions.
    """

    optional_prefixes: ClassVar[tuple[str, ...]] = ()  # as in `Backbone`

    def __init__(
        self,
        embeddings: Embeddings,
        encoder: EncoderStack,
        decoder: DecoderStack,
        *,
        d_model: int,
        max_seq_len: int,
        dropout: float,
        packing: PackingMode = "auto",
        output_bias: bool = False,
        target_embeddings: Embeddings | None = None,
        tie_word_embeddings: bool = True,
    ) -> None:
        super().__init__()
        self.target_embeddings = target_embeddings
        vocab_size = (target_embeddings or embeddings).token.num_embeddings
        self.output = None if tie_word_embeddings else nn.Linear(d_model, vocab_size, bias=False)
        self.embeddings, self.encoder, self.decoder = embeddings, encoder, decoder
        self.bias = nn.Parameter(torch.zeros(vocab_size)) if output_bias else None
        self.d_model, self.max_seq_len, self.dropout, self.packing = d_model, max_seq_len, dropout, packing

    def encode(
        self,
        ids: Int[Tensor, "batch sources"],
        padding_mask: Bool[Tensor, "batch sources"],
        attn_layers: Collection[int] = (),
        lengths: SequenceLengths | None = None,
    ) -> HiddenStates:
        """The memory, with the attention weights of the layers whose indices are in `attn_layers`."""
        layout = self._layout(padding_mask, lengths)
        x = self.embeddings(layout.pack(ids), layout.positions(ids.device))
        return self.encoder(x, layout, attn_layers=attn_layers)

    def decode(
        self,
        ids: Int[Tensor, "batch targets"],
        padding_mask: Bool[Tensor, "batch targets"],
        memory: HiddenStates,
        attn_layers: Collection[int] = (),
        lengths: SequenceLengths | None = None,
    ) -> HiddenStates:
        """Hidden states of the targets, which attend to the memory and causally to each other.

        They come with the attention weights of `attn_layers`, over the targets and over the memory.
        """
        layout = self._layout(padding_mask, lengths)
        x = self.embed_targets(layout.pack(ids), layout.positions(ids.device))
        return self.decoder(x, layout, memory.tokens, memory.layout, attn_layers=attn_layers)

    def forward(
        self,
        source_ids: Int[Tensor, "batch sources"],
        source_mask: Bool[Tensor, "batch sources"],
        target_ids: Int[Tensor, "batch targets"],
        target_mask: Bool[Tensor, "batch targets"],
        source_lengths: SequenceLengths | None = None,
        target_lengths: SequenceLengths | None = None,
    ) -> HiddenStates:
        """Hidden states of the targets: `encode`, then `decode`. Lengths are those of the masks, where the host knows them."""
        memory = self.encode(source_ids, source_mask, lengths=source_lengths)
        return self.decode(target_ids, target_mask, memory, lengths=target_lengths)

    @property
    def target_vocab_size(self) -> int:
        """Rows of the output matrix."""
        return len(self.output_weight)

    @property
    def output_weight(self) -> Float[Tensor, "vocab d_model"]:
        """The matrix from hidden states to logits."""
        return self.embed_targets.token.weight if self.output is None else self.output.weight

    @property
    def embed_targets(self) -> Embeddings:
        """The embeddings of target tokens."""
        return self.target_embeddings or self.embeddings

    def logits(self, hidden: Float[Tensor, "*tokens d_model"]) -> Float[Tensor, "*tokens vocab"]:
        return functional.linear(hidden, self.output_weight, self.bias)

    def init_state(self, memory: HiddenStates, max_len: int) -> DecoderState:
        """Empty targets of up to `max_len` tokens, one for each row of the memory."""
        rows, sources = memory.layout.batch, memory.layout.seq
        caches = self.decoder.init_caches(rows, max_len, memory.tokens)
        return DecoderState(caches, self.decoder.init_cross_caches(rows, sources, memory.tokens), memory)

    def decode_step(self, ids: Int[Tensor, "rows new"], state: DecoderState) -> Float[Tensor, "rows new d_model"]:
        """Hidden states of new target tokens, which attend to those in `state` and are added to them."""
        rows, new = ids.shape
        check_length(state.length + new, self.max_seq_len)
        layout = PaddedLayout(rows, new, None, state.length)
        # the first step puts the memory's keys and values into the cross caches; later steps read them there
        memory, state.memory = state.memory, None
        positions = layout.positions(ids.device).expand(rows, new)
        hidden: HiddenStates = self.decoder(
            self.embed_targets(ids, positions),
            layout,
            None if memory is None else memory.tokens,
            None if memory is None else memory.layout,
            caches=state.caches,
            cross_caches=state.cross_caches,
        )
        state.length += new
        return hidden.tokens

    def _layout(self, padding_mask: Bool[Tensor, "batch seq"], lengths: SequenceLengths | None = None) -> Layout:
        check_length(padding_mask.shape[1], self.max_seq_len)
        return build_layout(padding_mask, self.packing, lengths)


def source_encoder(*, model: EncoderDecoder, packing: PackingMode = "auto") -> Encoder:
    """The encoder of an encoder-decoder alone, with the same weights. Heads read the mean of its hidden states: sources have no
    token for the whole."""
    return Encoder(
        model.embeddings,
        model.encoder,
        MeanPooler(),
        d_model=model.d_model,
        max_seq_len=model.max_seq_len,
        dropout=model.dropout,
        packing=packing,
    )
