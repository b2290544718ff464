"""Recurrent networks (2014 to 2016), the Transformer's baselines, as three architectures of the same stacks.

- encoder: bidirectional layers, whose mean is the pooled vector;
- decoder: a left-to-right language model with tied input and output embeddings;
- encoder-decoder with attention: `attention="luong"` (arXiv 1508.04025) attends in the top layer, with the state that it has
  just computed; `attention="bahdanau"` (arXiv 1409.0473) in the first layer, with the state before, whose context is part of
  the recurrence's input.

The recurrence gives the order: there are no position embeddings, and `max_seq_len` is no property of the weights. Residual
connections begin at the second layer (GNMT, arXiv 1609.08144, section 3.1, begins at the third).

Differs: embeddings start at N(0, 1/d_model) and are one matrix with the output layer, as the Transformer's; recurrences start
as torch's do.
"""

from typing import Literal

from torch import nn

from protoformer.blocks.baselines.recurrent import Cell, RecurrentDecoderLayer, RecurrentEncoderLayer, RecurrentNorm
from protoformer.blocks.baselines.source_attention import ScoreFunction, SourceAttention
from protoformer.blocks.embeddings import Embeddings
from protoformer.blocks.stacks import DecoderStack, EncoderStack
from protoformer.models.assemble import Architecture, assemble
from protoformer.models.backbone import PackingMode
from protoformer.models.decoder import Decoder
from protoformer.models.encoder import Encoder
from protoformer.models.encoder_decoder import EncoderDecoder
from protoformer.ranges import DropoutRate, Positive


def rnn(
    *,
    vocab_size: Positive,
    d_model: Positive,
    n_layers: Positive,
    architecture: Architecture = "encoder",
    cell: Cell = "lstm",
    attention: Literal["luong", "bahdanau"] = "luong",
    attention_score: ScoreFunction = "general",
    max_seq_len: Positive = 512,
    dropout: DropoutRate = 0.1,
    residual: bool = True,
    norm: RecurrentNorm = "none",
    packing: PackingMode = "auto",
) -> Encoder | Decoder | EncoderDecoder:
    """A network with freshly initialised weights; encoder and decoder have `n_layers` layers each.

    `attention` and `attention_score` (additive, dot or general) concern the encoder-decoder alone. Raises ValueError for an
    unknown architecture or attention.
    """
    if attention not in ("luong", "bahdanau"):
        raise ValueError(f"attention {attention!r}: luong or bahdanau")
    attending_layer = n_layers - 1 if attention == "luong" else 0

    def encoder_layer(index: int) -> RecurrentEncoderLayer:
        return RecurrentEncoderLayer(d_model, cell=cell, residual=residual and index > 0, norm=norm, dropout=dropout)

    def decoder_layer(index: int) -> RecurrentDecoderLayer:
        attends = architecture == "encoder_decoder" and index == attending_layer
        return RecurrentDecoderLayer(
            d_model,
            SourceAttention(d_model, attention_score) if attends else None,
            cell=cell,
            style=attention,
            residual=residual and index > 0,
            norm=norm,
            dropout=dropout,
        )

    embeddings = Embeddings(vocab_size, d_model, None, dropout=dropout)
    nn.init.normal_(embeddings.token.weight, std=d_model**-0.5)
    # both stacks are drawn, whichever is used: one seed gives an encoder the weights that it has in an encoder-decoder
    encoder = EncoderStack([encoder_layer(index) for index in range(n_layers)])
    decoder = DecoderStack([decoder_layer(index) for index in range(n_layers)])
    return assemble(
        architecture,
        embeddings,
        encoder,
        decoder,
        d_model=d_model,
        max_seq_len=max_seq_len,
        dropout=dropout,
        packing=packing,
    )
