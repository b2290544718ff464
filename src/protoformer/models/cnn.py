"""Convolutional networks, the Transformer's rivals of 2016 and 2017, in three roles on the same stacks (see `rnn`).

- gated: ConvS2S (arXiv 1705.03122), whose decoder looks at the source in every layer, and whose positions are learned
  (section 3.1);
- dilated: ByteNet (arXiv 1610.10099), whose dilations double from layer to layer and begin anew;
- separable: depthwise-separable convolutions, as in Xception and SliceNet (arXiv 1706.03059).

Differs: a stack ends in a layer normalisation, and scores of what it gives are divided by sqrt(d_model), without which they
are so large that attention is not learnt; embeddings start at N(0, 1/d_model) and are one matrix with the output layer, as the
Transformer's; ByteNet and SliceNet have here the encoder-decoder's attention of ConvS2S.
"""

from collections.abc import Sequence
from itertools import cycle, islice
from typing import Literal

from torch import nn

from protoformer.blocks.baselines.convolution import ConvolutionDecoderLayer, ConvolutionEncoderLayer, Kind, convolution
from protoformer.blocks.baselines.source_attention import SourceAttention
from protoformer.blocks.embeddings import Embeddings
from protoformer.blocks.positions import LearnedPositions
from protoformer.blocks.stacks import DecoderStack, EncoderStack
from protoformer.models.backbone import PackingMode
from protoformer.models.decoder import Decoder
from protoformer.models.encoder import Encoder
from protoformer.models.encoder_decoder import EncoderDecoder
from protoformer.models.rnn import Role, in_role
from protoformer.ranges import DropoutRate, Positive


def cnn(
    *,
    vocab_size: Positive,
    d_model: Positive,
    n_layers: Positive,
    role: Role = "encoder",
    kind: Kind = "gated",
    kernel: int = 3,
    dilations: Sequence[int] = (1, 2, 4, 8, 16),
    positions: Literal["learned", "none"] = "learned",
    max_seq_len: Positive = 512,
    dropout: DropoutRate = 0.1,
    packing: PackingMode = "auto",
) -> Encoder | Decoder | EncoderDecoder:
    """A network with fresh weights, its encoder and decoder of `n_layers` layers each; `dilations` are repeated over those of
    the dilated kind, the others have none. Raises ValueError for no dilations at all."""
    if not dilations:
        raise ValueError("dilations: name at least one")
    spread = list(islice(cycle(dilations), n_layers))

    def layer(number: int, causal: bool) -> nn.Module:
        return convolution(kind, d_model, kernel, dilation=spread[number], causal=causal, dropout=dropout)

    def decoder_layer(number: int) -> ConvolutionDecoderLayer:
        attention = SourceAttention(d_model, "scaled_dot") if role == "encoder_decoder" else None
        return ConvolutionDecoderLayer(layer(number, True), d_model, attention)

    def final_norm() -> nn.LayerNorm:
        return nn.LayerNorm(d_model)

    places = LearnedPositions(max_seq_len, d_model) if positions == "learned" else None
    embeddings = Embeddings(vocab_size, d_model, places, dropout=dropout)
    for part in (embeddings.token, *([] if places is None else [places])):
        nn.init.normal_(part.weight, std=d_model**-0.5)
    encoding, decoding = role != "decoder", role != "encoder"
    return in_role(
        role,
        embeddings,
        EncoderStack([ConvolutionEncoderLayer(layer(n, False)) for n in range(n_layers) if encoding], final_norm()),
        DecoderStack([decoder_layer(n) for n in range(n_layers) if decoding], final_norm()),
        d_model=d_model,
        max_seq_len=max_seq_len,
        dropout=dropout,
        packing=packing,
    )
