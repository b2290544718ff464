"""An encoder: a bidirectional backbone (causal for one baseline), with an optional BiLSTM on top."""

from collections.abc import Collection

from jaxtyping import Bool, Int
from torch import Tensor, nn

from protoformer.blocks.baselines.recurrent import BiLSTM
from protoformer.blocks.embeddings import Embeddings
from protoformer.blocks.feed_forward import Activation
from protoformer.blocks.kernels.packing import HiddenStates, SequenceLengths
from protoformer.blocks.stacks import EncoderStack
from protoformer.models.backbone import Backbone, PackingMode


class Encoder(Backbone):
    """ids -> hidden states, passed through `top` if there is one."""

    optional_prefixes = ("top.",)

    def __init__(
        self,
        embeddings: Embeddings,
        stack: EncoderStack,
        pooler: nn.Module,
        *,
        d_model: int,
        max_seq_len: int,
        dropout: float,
        packing: PackingMode = "auto",
        activation: Activation = "gelu",
        norm_eps: float = 1e-12,
        causal: bool = False,
        top: BiLSTM | None = None,
        tie_word_embeddings: bool = True,
    ) -> None:
        super().__init__(
            embeddings,
            stack,
            pooler,
            d_model=d_model,
            max_seq_len=max_seq_len,
            dropout=dropout,
            packing=packing,
            activation=activation,
            norm_eps=norm_eps,
            tie_word_embeddings=tie_word_embeddings,
        )
        self.causal, self.top = causal, top

    def forward(
        self,
        ids: Int[Tensor, "batch seq"],
        padding_mask: Bool[Tensor, "batch seq"],
        segment_ids: Int[Tensor, "batch seq"] | None = None,
        attn_layers: Collection[int] = (),
        lengths: SequenceLengths | None = None,
    ) -> HiddenStates:
        hidden = super().forward(ids, padding_mask, segment_ids, attn_layers, lengths)
        return hidden if self.top is None else hidden._replace(tokens=self.top(hidden.tokens, hidden.layout))
