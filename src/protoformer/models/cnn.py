"""Convolutional networks (2016 and 2017), the Transformer's baselines, as three architectures of the same stacks (see `rnn`).

- gated: ConvS2S (arXiv 1705.03122), whose decoder attends to the source in every layer, and whose positions are learned
  (section 3.1);
- dilated: ByteNet (arXiv 1610.10099), whose dilations double from layer to layer and begin anew;
- separable: depthwise-separable convolutions, as in Xception and SliceNet (arXiv 1706.03059).

Differs: a stack ends in a layer normalisation, and the scores of attention to its output are divided by sqrt(d_model), without
which they are so large that attention is not learnt; embeddings start at N(0, 1/d_model) and are one matrix with the output
layer, as the Transformer's; ByteNet and SliceNet have here the encoder-decoder attention of ConvS2S.
"""

from collections.abc import Sequence
from itertools import cycle, islice
from typing import Literal

from torch import nn

from protoformer.blocks.baselines.convolution import (
    ConvolutionDecoderLayer,
    ConvolutionEncoderLayer,
    ConvolutionKind,
    build_convolution,
)
from protoformer.blocks.baselines.source_attention import SourceAttention
from protoformer.blocks.embeddings import Embeddings
from protoformer.blocks.positions import LearnedPositions
from protoformer.blocks.stacks import DecoderStack, EncoderStack
from protoformer.models.assemble import Architecture, assemble
from protoformer.models.backbone import PackingMode
from protoformer.models.decoder import Decoder
from protoformer.models.encoder import Encoder
from protoformer.models.encoder_decoder import EncoderDecoder
from protoformer.ranges import DropoutRate, Positive


def cnn(
    *,
    vocab_size: Positive,
    d_model: Positive,
    n_layers: Positive,
    architecture: Architecture = "encoder",
    kind: ConvolutionKind = "gated",
    kernel: int = 3,
    dilations: Sequence[int] = (1, 2, 4, 8, 16),
    positions: Literal["learned", "none"] = "learned",
    max_seq_len: Positive = 512,
    dropout: DropoutRate = 0.1,
    packing: PackingMode = "auto",
) -> Encoder | Decoder | EncoderDecoder:
    """A network with freshly initialised weights; encoder and decoder have `n_layers` layers each.

    `dilations` are repeated over the layers of the dilated kind; the other kinds have none. Raises ValueError for no dilations
    at all, and for an unknown architecture.
    """
    if not dilations:
        raise ValueError("dilations: name at least one")
    layer_dilations = list(islice(cycle(dilations), n_layers))

    def layer(index: int, causal: bool) -> nn.Module:
        return build_convolution(kind, d_model, kernel, dilation=layer_dilations[index], causal=causal, dropout=dropout)

    def decoder_layer(index: int) -> ConvolutionDecoderLayer:
        attention = SourceAttention(d_model, "scaled_dot") if architecture == "encoder_decoder" else None
        return ConvolutionDecoderLayer(layer(index, True), d_model, attention)

    def final_norm() -> nn.LayerNorm:
        return nn.LayerNorm(d_model)

    position = LearnedPositions(max_seq_len, d_model) if positions == "learned" else None
    embeddings = Embeddings(vocab_size, d_model, position, dropout=dropout)
    nn.init.normal_(embeddings.token.weight, std=d_model**-0.5)
    if position is not None:
        nn.init.normal_(position.weight, std=d_model**-0.5)
    encoder_layers = n_layers if architecture != "decoder" else 0
    decoder_layers = n_layers if architecture != "encoder" else 0
    return assemble(
        architecture,
        embeddings,
        EncoderStack([ConvolutionEncoderLayer(layer(index, False)) for index in range(encoder_layers)], final_norm()),
        DecoderStack([decoder_layer(index) for index in range(decoder_layers)], final_norm()),
        d_model=d_model,
        max_seq_len=max_seq_len,
        dropout=dropout,
        packing=packing,
    )
