"""GPT, GPT-2 and GPT-3: the decoder of *Attention Is All You Need* without attention to another sequence.

- GPT (Radford et al. 2018, section 4.1): post-norm, learned positions, GELU in its tanh form, N(0, 0.02).
- GPT-2 (Radford et al. 2019, section 2.3): the norms move to the input of each sublayer and one more stands at the end;
  weights of residual projections are scaled by 1/sqrt(number of residual sublayers) at the start.
- GPT-3 (arXiv 2005.14165, section 2.1): GPT-2 with alternating dense and locally banded attention.
"""

from collections.abc import Sequence
from itertools import cycle, islice
from typing import Literal

from torch import nn

from protoformer.blocks import init
from protoformer.blocks.attention import MultiHeadAttention
from protoformer.blocks.embeddings import Embeddings
from protoformer.blocks.feed_forward import Activation, FeedForward
from protoformer.blocks.layers import DecoderLayer, Norm
from protoformer.blocks.positions import LearnedPositions, Positions, RotaryPositions, absolute_position_embedding
from protoformer.blocks.stacks import DecoderStack
from protoformer.models.backbone import PackingMode
from protoformer.models.decoder import Decoder
from protoformer.models.poolers import TokenPooler
from protoformer.ranges import DropoutRate, Positive

Pattern = Literal["dense", "banded"]


def gpt(
    *,
    vocab_size: Positive,
    d_model: Positive,
    n_layers: Positive,
    n_heads: Positive,
    d_ff: Positive,
    max_seq_len: Positive = 512,
    positions: Positions = "learned",
    dropout: DropoutRate = 0.1,
    attention_dropout: DropoutRate | None = None,
    embedding_dropout: float | None = None,
    activation: Activation = "gelu_tanh",
    norm: Norm = "post",
    norm_eps: float = 1e-5,
    attention: Sequence[Pattern] = ("dense",),
    band: int | None = None,
    init_std: float = 0.02,
    position_std: float | None = None,
    scaled_residuals: bool = False,
    tie_word_embeddings: bool = True,
    packing: PackingMode = "auto",
) -> Decoder:
    """A decoder with freshly initialised weights.

    `attention` is a pattern that is repeated over the layers: a banded layer attends to the last `band` positions, itself
    included. `positions` are learned vectors, sinusoids (token embeddings then times sqrt(d_model), as in the 2017 model) or
    rotary. `attention_dropout` and `embedding_dropout` None mean `dropout`, `position_std` (of learned positions) None means
    `init_std`. With `tie_word_embeddings` false the output matrix is not the embedding.

    Raises ValueError for a banded layer without a band, and for an empty pattern.
    """
    if "banded" in attention and band is None:
        raise ValueError("attention: a banded layer needs a band, the number of positions that it sees")
    if not attention:
        raise ValueError("attention: name at least one pattern, dense or banded")
    attention_dropout = dropout if attention_dropout is None else attention_dropout
    embedding_dropout = dropout if embedding_dropout is None else embedding_dropout

    rotary = RotaryPositions(max_seq_len, d_model // n_heads) if positions == "rotary" else None

    def decoder_layer(pattern: Pattern) -> DecoderLayer:
        window = band if pattern == "banded" else None
        return DecoderLayer(
            MultiHeadAttention(d_model, n_heads, dropout=attention_dropout, causal=True, window=window, rotary=rotary),
            None,
            FeedForward(d_model, d_ff, activation),
            d_model=d_model,
            norm=norm,
            norm_eps=norm_eps,
            dropout=dropout,
        )

    layers = [decoder_layer(pattern) for pattern in islice(cycle(attention), n_layers)]
    decoder = Decoder(
        Embeddings(
            vocab_size,
            d_model,
            absolute_position_embedding(positions, max_seq_len, d_model),
            dropout=embedding_dropout,
            scale_by_sqrt_d_model=positions == "sinusoidal",
        ),
        DecoderStack(layers, final_norm=nn.LayerNorm(d_model, eps=norm_eps) if norm == "pre" else None),
        TokenPooler(),
        d_model=d_model,
        max_seq_len=max_seq_len,
        dropout=dropout,
        packing=packing,
        activation=activation,
        norm_eps=norm_eps,
        tie_word_embeddings=tie_word_embeddings,
    )
    init.gpt(decoder, init_std)
    if position_std is not None and isinstance(decoder.embeddings.position, LearnedPositions):
        nn.init.normal_(decoder.embeddings.position.weight, std=position_std)
    if scaled_residuals:
        init.scale_residual([linear for layer in layers for linear in residual_projections(layer)], n_layers)
    return decoder


def residual_projections(layer: DecoderLayer) -> tuple[nn.Linear, nn.Linear]:
    """The output projections of a layer's attention and feed-forward, which add to the residual stream."""
    assert isinstance(layer.feed_forward, FeedForward)
    return layer.attention.output, layer.feed_forward.outer
