"""The model of an architecture (encoder, decoder or encoder-decoder) from its stacks, for builders that make all three."""

from typing import Literal

from protoformer.blocks.embeddings import Embeddings
from protoformer.blocks.stacks import DecoderStack, EncoderStack
from protoformer.models.backbone import PackingMode
from protoformer.models.decoder import Decoder
from protoformer.models.encoder import Encoder
from protoformer.models.encoder_decoder import EncoderDecoder
from protoformer.models.poolers import MeanPooler, TokenPooler

Architecture = Literal["encoder", "decoder", "encoder_decoder"]


def assemble(
    architecture: Architecture,
    embeddings: Embeddings,
    encoder: EncoderStack,
    decoder: DecoderStack,
    *,
    d_model: int,
    max_seq_len: int,
    dropout: float,
    packing: PackingMode,
) -> Encoder | Decoder | EncoderDecoder:
    """The model of an architecture, from those of the two stacks that it uses. Raises ValueError for an unknown one.

    An encoder gets the mean as its pooled vector, a decoder that of its last token: neither has a token of its own for that.
    """
    if architecture == "encoder":
        return Encoder(
            embeddings, encoder, MeanPooler(),
            d_model=d_model, max_seq_len=max_seq_len, dropout=dropout, packing=packing,
        )  # fmt: skip
    if architecture == "decoder":
        return Decoder(
            embeddings, decoder, TokenPooler(),
            d_model=d_model, max_seq_len=max_seq_len, dropout=dropout, packing=packing,
        )  # fmt: skip
    if architecture != "encoder_decoder":
        raise ValueError(f"architecture {architecture!r}: encoder, decoder or encoder_decoder")
    return EncoderDecoder(
        embeddings, encoder, decoder, d_model=d_model, max_seq_len=max_seq_len, dropout=dropout, packing=packing
    )
