"""The encoder of the 2017 Transformer alone (arXiv 1706.03762, section 3.1), for tasks on texts.

As in `transformer`: post-norm, ReLU, sinusoidal positions, embeddings times sqrt(d_model). Attention over a neighbourhood
alone (`window`) is the restricted self-attention of section 4. It has no token of its own for the whole: heads read the mean.
"""

from torch import nn

from protoformer.blocks import init
from protoformer.blocks.attention import MultiHeadAttention
from protoformer.blocks.embeddings import Embeddings
from protoformer.blocks.feed_forward import Activation, FeedForward
from protoformer.blocks.layers import EncoderLayer, Norm
from protoformer.blocks.positions import LearnedPositions, SinusoidalPositions
from protoformer.blocks.stacks import EncoderStack
from protoformer.models.backbone import PackingMode
from protoformer.models.encoder import Encoder
from protoformer.models.poolers import MeanPooler
from protoformer.models.transformer import Positions, Sinusoid
from protoformer.ranges import DropoutRate, Positive


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
    positions: Positions = "sinusoidal",
    sinusoid: Sinusoid = "interleaved",
    window: Positive | None = None,
    packing: PackingMode = "auto",
) -> Encoder:
    """The encoder with fresh weights. `window` r: a position sees r others to either side, so n positions are n / r layers
    apart (section 4, table 1)."""

    def layer() -> EncoderLayer:
        return EncoderLayer(
            MultiHeadAttention(d_model, n_heads, d_head=d_head, d_key=d_key, dropout=attention_dropout, window=window),
            FeedForward(d_model, d_ff, activation),
            d_model=d_model,
            norm=norm,
            norm_eps=norm_eps,
            dropout=dropout,
        )

    places = (
        LearnedPositions(max_seq_len, d_model)
        if positions == "learned"
        else SinusoidalPositions(max_seq_len, d_model, sinusoid)
    )
    encoder = Encoder(
        Embeddings(vocab_size, d_model, places, dropout=dropout, scale_by_sqrt_d_model=True),
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
