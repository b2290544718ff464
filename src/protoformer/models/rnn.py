"""Recurrent networks, the Transformer's rivals of 2014 to 2016, in three roles on the same stacks.

- encoder: layers that read from both sides, the mean of their vectors for the whole;
- decoder: a language model from left to right, its next word by the matrix of its own embedding;
- encoder-decoder with attention: `looks="after"` as Luong et al. (arXiv 1508.04025; the top layer looks at the source, by what
  it has just read), `looks="before"` as Bahdanau et al. (arXiv 1409.0473; the first layer looks before it reads).

Order is the layers' own: there are no positions, and `max_seq_len` is no property of the weights. Residual connections begin
at the second layer (GNMT, arXiv 1609.08144, section 3.1, begins at the third).

Differs: embeddings start at N(0, 1/d_model) and are one matrix with the output layer, as the Transformer's; recurrences start
as torch's do.
"""

from typing import Literal

from torch import nn

from protoformer.blocks.baselines.recurrent import Cell, RecurrentDecoderLayer, RecurrentEncoderLayer, RecurrentNorm
from protoformer.blocks.baselines.source_attention import Score, SourceAttention
from protoformer.blocks.embeddings import Embeddings
from protoformer.blocks.stacks import DecoderStack, EncoderStack
from protoformer.models.backbone import PackingMode
from protoformer.models.decoder import Decoder
from protoformer.models.encoder import Encoder
from protoformer.models.encoder_decoder import EncoderDecoder
from protoformer.models.poolers import MeanPooler, TokenPooler
from protoformer.ranges import DropoutRate, Positive

Role = Literal["encoder", "decoder", "encoder_decoder"]


def rnn(
    *,
    vocab_size: Positive,
    d_model: Positive,
    n_layers: Positive,
    role: Role = "encoder",
    cell: Cell = "lstm",
    attention: Score = "general",
    looks: Literal["before", "after"] = "after",
    max_seq_len: Positive = 512,
    dropout: DropoutRate = 0.1,
    residual: bool = True,
    norm: RecurrentNorm = "none",
    packing: PackingMode = "auto",
) -> Encoder | Decoder | EncoderDecoder:
    """A network with fresh weights, its encoder and decoder of `n_layers` layers each; `attention` is the score of the
    encoder-decoder's (additive, dot or general)."""
    looking = n_layers - 1 if looks == "after" else 0

    def encoder_layer(number: int) -> RecurrentEncoderLayer:
        return RecurrentEncoderLayer(d_model, cell=cell, residual=residual and number > 0, norm=norm, dropout=dropout)

    def decoder_layer(number: int, attends: bool) -> RecurrentDecoderLayer:
        return RecurrentDecoderLayer(
            d_model,
            SourceAttention(d_model, attention) if attends and number == looking else None,
            cell=cell,
            style="luong" if looks == "after" else "bahdanau",
            residual=residual and number > 0,
            norm=norm,
            dropout=dropout,
        )

    embeddings = Embeddings(vocab_size, d_model, None, dropout=dropout)
    nn.init.normal_(embeddings.token.weight, std=d_model**-0.5)
    encoder = EncoderStack([encoder_layer(number) for number in range(n_layers)])
    decoder = DecoderStack([decoder_layer(number, role == "encoder_decoder") for number in range(n_layers)])
    return in_role(
        role, embeddings, encoder, decoder, d_model=d_model, max_seq_len=max_seq_len, dropout=dropout, packing=packing
    )


def in_role(
    role: Role,
    embeddings: Embeddings,
    encoder: EncoderStack,
    decoder: DecoderStack,
    *,
    d_model: int,
    max_seq_len: int,
    dropout: float,
    packing: PackingMode,
) -> Encoder | Decoder | EncoderDecoder:
    """The stacks that a role needs, as the model that takes part in it. Raises ValueError for a role that is none."""
    if role == "encoder":
        return Encoder(
            embeddings, encoder, MeanPooler(),
            d_model=d_model, max_seq_len=max_seq_len, dropout=dropout, packing=packing,
        )  # fmt: skip
    if role == "decoder":
        return Decoder(
            embeddings, decoder, TokenPooler(),
            d_model=d_model, max_seq_len=max_seq_len, dropout=dropout, packing=packing,
        )  # fmt: skip
    if role != "encoder_decoder":
        raise ValueError(f"role {role!r}: encoder, decoder or encoder_decoder")
    return EncoderDecoder(
        embeddings, encoder, decoder, d_model=d_model, max_seq_len=max_seq_len, dropout=dropout, packing=packing
    )
