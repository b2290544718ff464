"""BERT: the encoder of *Attention Is All You Need*, deep and bidirectional (arXiv 1810.04805, section 3).

Post-norm, GELU, learned positions, two segments, LayerNorm eps 1e-12 and a tanh pooler over [CLS], as published.
"""

from typing import Literal

from torch import nn

from protoformer.blocks import init
from protoformer.blocks.attention import MultiHeadAttention
from protoformer.blocks.baselines.recurrent import BiLSTM
from protoformer.blocks.embeddings import Embeddings
from protoformer.blocks.feed_forward import Activation, FeedForward
from protoformer.blocks.layers import EncoderLayer, Norm
from protoformer.blocks.positions import Positions, RotaryPositions, absolute_position_embedding
from protoformer.blocks.stacks import EncoderStack
from protoformer.models.backbone import PackingMode
from protoformer.models.encoder import Encoder
from protoformer.models.poolers import FirstTokenPooler
from protoformer.ranges import DropoutRate, Positive


def bert(
    *,
    vocab_size: Positive,
    d_model: Positive,
    n_layers: Positive,
    n_heads: Positive,
    d_ff: Positive,
    max_seq_len: Positive = 512,
    positions: Positions = "learned",
    n_segments: int = 2,
    dropout: DropoutRate = 0.1,
    attention_dropout: DropoutRate | None = None,
    attention: Literal["bidirectional", "causal"] = "bidirectional",
    activation: Activation = "gelu",
    norm: Norm = "post",
    norm_eps: float = 1e-12,
    init_std: float = 0.02,
    top: Literal["none", "bilstm"] = "none",
    tie_word_embeddings: bool = True,
    packing: PackingMode = "auto",
) -> Encoder:
    """BERT's encoder with freshly initialised weights: truncated normal of standard deviation `init_std`, 0.02 as published.

    `positions` are learned vectors, sinusoids (token embeddings then times sqrt(d_model), as in the 2017 model) or rotary.
    `dropout` is BERT's hidden dropout; `attention_dropout` None means the same. `attention="causal"` is the left-to-right
    baseline of section 5.1, and `top="bilstm"` the BiLSTM that the paper puts on top of it.
    With `tie_word_embeddings` false a masked-LM head has an output matrix of its own.
    """
    attention_dropout = dropout if attention_dropout is None else attention_dropout

    rotary = RotaryPositions(max_seq_len, d_model // n_heads) if positions == "rotary" else None

    def layer() -> EncoderLayer:
        return EncoderLayer(
            MultiHeadAttention(
                d_model, n_heads, dropout=attention_dropout, causal=attention == "causal", rotary=rotary
            ),
            FeedForward(d_model, d_ff, activation),
            d_model=d_model,
            norm=norm,
            norm_eps=norm_eps,
            dropout=dropout,
        )

    encoder = Encoder(
        Embeddings(
            vocab_size,
            d_model,
            absolute_position_embedding(positions, max_seq_len, d_model),
            n_segments=n_segments,
            norm=nn.LayerNorm(d_model, eps=norm_eps),
            dropout=dropout,
            scale_by_sqrt_d_model=positions == "sinusoidal",
        ),
        EncoderStack(
            [layer() for _ in range(n_layers)],
            final_norm=nn.LayerNorm(d_model, eps=norm_eps) if norm == "pre" else None,
        ),
        FirstTokenPooler(d_model),
        d_model=d_model,
        max_seq_len=max_seq_len,
        dropout=dropout,
        packing=packing,
        activation=activation,
        norm_eps=norm_eps,
        causal=attention == "causal",
        top=BiLSTM(d_model) if top == "bilstm" else None,
        tie_word_embeddings=tie_word_embeddings,
    )
    init.bert(encoder, init_std)
    return encoder
