"""ELECTRA's discriminator: BERT's encoder over embeddings of another width (arXiv 2003.10555, section 3.2 and appendix A).

A projection brings embeddings of width `d_embedding` to `d_model`. The pooled vector is GELU(W h + b) of [CLS], as in the
paper's code.
"""

from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from protoformer.blocks import init
from protoformer.blocks.attention import MultiHeadAttention
from protoformer.blocks.embeddings import Embeddings
from protoformer.blocks.feed_forward import Activation, FeedForward
from protoformer.blocks.kernels.packing import HiddenStates
from protoformer.blocks.layers import EncoderLayer
from protoformer.blocks.positions import LearnedPositions
from protoformer.blocks.stacks import EncoderStack
from protoformer.models.backbone import PackingMode
from protoformer.models.encoder import Encoder
from protoformer.ranges import DropoutRate, Positive


class ProjectedEmbeddings(Embeddings):
    """Input embeddings with a linear layer to the width of the stack; none where both widths are the same."""

    def __init__(
        self, vocab_size: int, d_embedding: int, d_model: int, positions: nn.Module, n_segments: int, dropout: float
    ) -> None:
        norm = nn.LayerNorm(d_embedding, eps=1e-12)
        super().__init__(vocab_size, d_embedding, positions, n_segments=n_segments, norm=norm, dropout=dropout)
        self.projection = nn.Linear(d_embedding, d_model) if d_embedding != d_model else None

    def forward(
        self,
        ids: Int[Tensor, "*tokens"],
        position: Int[Tensor, "*positions"],
        segment_ids: Int[Tensor, "*tokens"] | None = None,
    ) -> Float[Tensor, "*tokens d_model"]:
        x = super().forward(ids, position, segment_ids)
        return x if self.projection is None else self.projection(x)


class GeluPooler(nn.Module):
    """GELU(W h + b) of the hidden state at the pooler position."""

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.dense = nn.Linear(d_model, d_model)

    def forward(self, hidden: HiddenStates, position: Int[Tensor, "batch"]) -> Float[Tensor, "batch d_model"]:
        return functional.gelu(self.dense(hidden.at(position)))


def electra(
    *,
    vocab_size: Positive,
    d_embedding: Positive,
    d_model: Positive,
    n_layers: Positive,
    n_heads: Positive,
    d_ff: Positive,
    max_seq_len: Positive = 512,
    n_segments: Positive = 2,
    dropout: DropoutRate = 0.1,
    activation: Activation = "gelu",
    init_std: float = 0.02,
    packing: PackingMode = "auto",
) -> Encoder:
    """ELECTRA's encoder with freshly initialised weights: truncated normal of standard deviation `init_std`."""

    def layer() -> EncoderLayer:
        return EncoderLayer(
            MultiHeadAttention(d_model, n_heads, dropout=dropout),
            FeedForward(d_model, d_ff, activation),
            d_model=d_model,
            norm="post",
            norm_eps=1e-12,
            dropout=dropout,
        )

    positions = LearnedPositions(max_seq_len, d_embedding)
    encoder = Encoder(
        ProjectedEmbeddings(vocab_size, d_embedding, d_model, positions, n_segments, dropout),
        EncoderStack([layer() for _ in range(n_layers)]),
        GeluPooler(d_model),
        d_model=d_model,
        max_seq_len=max_seq_len,
        dropout=dropout,
        packing=packing,
        activation=activation,
    )
    init.bert(encoder, init_std)
    return encoder
