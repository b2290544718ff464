"""Input embeddings: the sum of token, position and segment embeddings.

The 2017 model multiplies token embeddings by sqrt(d_model) (arXiv 1706.03762, section 3.4) and applies dropout to the sum
(section 5.4); BERT adds segments and normalises before the dropout (arXiv 1810.04805, section 3, figure 2, and its code).
"""

from jaxtyping import Float, Int
from torch import Tensor, nn

from protoformer.blocks.kernels.dropout import Dropout


class Embeddings(nn.Module):
    """Token embeddings, plus position embeddings (None: none), plus segment embeddings (`n_segments` 0: none)."""

    def __init__(
        self,
        vocab_size: int,
        d_model: int,
        position_embedding: nn.Module | None,
        *,
        n_segments: int = 0,
        norm: nn.Module | None = None,
        dropout: float = 0.0,
        scale_by_sqrt_d_model: bool = False,
    ) -> None:
        super().__init__()
        # its matrix is often the output layer's too (1706.03762, section 3.4)
        self.token = nn.Embedding(vocab_size, d_model)
        self.position = position_embedding
        self.segment = nn.Embedding(n_segments, d_model) if n_segments else None
        self.norm = norm
        self.dropout = Dropout(dropout)
        self.scale = d_model**0.5 if scale_by_sqrt_d_model else 1.0

    def forward(
        self,
        ids: Int[Tensor, "*tokens"],
        positions: Int[Tensor, "*positions"],
        segment_ids: Int[Tensor, "*tokens"] | None = None,
    ) -> Float[Tensor, "*tokens d_model"]:
        """`positions` may be `1 seq` where `ids` are `batch seq`; without `segment_ids` every token is in segment 0."""
        x = self.token(ids)
        # brings N(0, 1/d_model) vectors to the size of the sinusoids that are added
        if self.scale != 1.0:
            x = x * self.scale
        if self.position is not None:
            x = x + self.position(positions)
        if self.segment is not None:
            # one vector broadcast to all tokens: no lookup where there is only one segment
            x = x + (self.segment.weight[0] if segment_ids is None else self.segment(segment_ids))
        # BERT normalises the sum; the others only apply dropout
        return self.dropout(x if self.norm is None else self.norm(x))
