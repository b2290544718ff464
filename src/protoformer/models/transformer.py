"""The Transformer of *Attention Is All You Need* (arXiv 1706.03762): encoder and decoder, and its encoder alone.

As published: post-norm, ReLU, sinusoidal positions (section 3.5), one matrix for both embeddings and the output layer, which
embeds times sqrt(d_model) (section 3.4), dropout on each sublayer's output and on the embeddings with their positions
(section 5.4). `init.transformer` fills the weights as its code did.

Differs: the attention projections have biases, which the paper's formulas leave out. Dropout on attention weights, which its
code had and its text has not, is an argument. The encoder alone, for tasks on texts, has no token of its own for the whole:
heads read the mean of its hidden states.
"""

from typing import Literal

from torch import nn

from protoformer.blocks import init
from protoformer.blocks.attention import MultiHeadAttention
from protoformer.blocks.embeddings import Embeddings
from protoformer.blocks.feed_forward import Activation, FeedForward
from protoformer.blocks.layers import DecoderLayer, EncoderLayer, Norm
from protoformer.blocks.positions import SinusoidOrder, absolute_position_embedding
from protoformer.blocks.stacks import DecoderStack, EncoderStack
from protoformer.models.backbone import PackingMode
from protoformer.models.encoder import Encoder
from protoformer.models.encoder_decoder import EncoderDecoder
from protoformer.models.poolers import MeanPooler
from protoformer.ranges import DropoutRate, Positive


def transformer(
    *,
    vocab_size: Positive,
    d_model: Positive,
    n_layers: Positive,
    n_heads: Positive,
    d_ff: Positive,
    n_decoder_layers: Positive | None = None,
    d_head: Positive | None = None,
    d_key: Positive | None = None,
    max_seq_len: Positive = 1024,
    dropout: DropoutRate = 0.1,
    attention_dropout: DropoutRate = 0.0,
    activation: Activation = "relu",
    norm: Norm = "post",
    norm_eps: float = 1e-5,
    positions: Literal["sinusoidal", "learned"] = "sinusoidal",
    sinusoid: SinusoidOrder = "interleaved",
    window: Positive | None = None,
    output_bias: bool = False,
    shared_embeddings: bool = True,
    tie_word_embeddings: bool = True,
    packing: PackingMode = "auto",
) -> EncoderDecoder:
    """The encoder-decoder with freshly initialised weights.

    `n_decoder_layers` None means `n_layers`, `d_head` None d_model / n_heads, `d_key` (the width of queries and keys) None
    `d_head`. `window` r is the restricted self-attention of section 4: a position attends to r others on either side, in the
    decoder to the last r, itself among them. `sinusoid="halves"` and `output_bias`, a bias on the logits, are Marian's. With
    `shared_embeddings` false sources and targets have embeddings of their own, with `tie_word_embeddings` false the output
    layer has a matrix of its own.
    """

    def attention(*, causal: bool = False, cross: bool = False) -> MultiHeadAttention:
        return MultiHeadAttention(
            d_model,
            n_heads,
            d_head=d_head,
            d_key=d_key,
            dropout=attention_dropout,
            causal=causal,
            window=None if cross else window,
            cross=cross,
        )

    def encoder_layer() -> EncoderLayer:
        feed_forward = FeedForward(d_model, d_ff, activation)
        return EncoderLayer(attention(), feed_forward, d_model=d_model, norm=norm, norm_eps=norm_eps, dropout=dropout)

    def decoder_layer() -> DecoderLayer:
        return DecoderLayer(
            attention(causal=True),
            attention(cross=True),
            FeedForward(d_model, d_ff, activation),
            d_model=d_model,
            norm=norm,
            norm_eps=norm_eps,
            dropout=dropout,
        )

    def final_norm() -> nn.Module | None:
        return nn.LayerNorm(d_model, eps=norm_eps) if norm == "pre" else None

    def embeddings() -> Embeddings:
        position = absolute_position_embedding(positions, max_seq_len, d_model, sinusoid)
        return Embeddings(vocab_size, d_model, position, dropout=dropout, scale_by_sqrt_d_model=True)

    decoder_layers = n_layers if n_decoder_layers is None else n_decoder_layers
    model = EncoderDecoder(
        embeddings(),
        EncoderStack([encoder_layer() for _ in range(n_layers)], final_norm()),
        DecoderStack([decoder_layer() for _ in range(decoder_layers)], final_norm()),
        d_model=d_model,
        max_seq_len=max_seq_len,
        dropout=dropout,
        packing=packing,
        output_bias=output_bias,
        target_embeddings=None if shared_embeddings else embeddings(),
        tie_word_embeddings=tie_word_embeddings,
    )
    init.transformer(model)
    return model


def transformer_encoder(
    *,
    vocab_size: Positive,
    d_model: Positive,
    n_layers: Positive,
    n_heads: Positive,
    d_ff: Positive,
    d_head: Positive | None = None,
    d_key: Positive | None = None,
    max_seq_len: Positive = 1024,
    dropout: DropoutRate = 0.1,
    attention_dropout: DropoutRate = 0.0,
    activation: Activation = "relu",
    norm: Norm = "post",
    norm_eps: float = 1e-5,
    positions: Literal["sinusoidal", "learned"] = "sinusoidal",
    sinusoid: SinusoidOrder = "interleaved",
    window: Positive | None = None,
    packing: PackingMode = "auto",
) -> Encoder:
    """The encoder alone with freshly initialised weights; arguments as in `transformer`.

    With a `window` r information needs n / r layers to cross n positions (section 4, table 1).
    """

    def layer() -> EncoderLayer:
        return EncoderLayer(
            MultiHeadAttention(d_model, n_heads, d_head=d_head, d_key=d_key, dropout=attention_dropout, window=window),
            FeedForward(d_model, d_ff, activation),
            d_model=d_model,
            norm=norm,
            norm_eps=norm_eps,
            dropout=dropout,
        )

    position = absolute_position_embedding(positions, max_seq_len, d_model, sinusoid)
    encoder = Encoder(
        Embeddings(vocab_size, d_model, position, dropout=dropout, scale_by_sqrt_d_model=True),
        EncoderStack(
            [layer() for _ in range(n_layers)],
            final_norm=nn.LayerNorm(d_model, eps=norm_eps) if norm == "pre" else None,
        ),
        MeanPooler(),
        d_model=d_model,
        max_seq_len=max_seq_len,
        dropout=dropout,
        packing=packing,
        activation=activation,
        norm_eps=norm_eps,
    )
    init.transformer(encoder)
    return encoder
