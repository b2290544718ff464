"""A model without its head: embeddings, a stack of layers, a pooler. Batches come padded; layers may run on packed tokens."""

from collections.abc import Collection
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from protoformer.blocks.embeddings import Embeddings
from protoformer.blocks.feed_forward import Activation
from protoformer.blocks.kernels.packing import HiddenStates, Layout, PackedLayout, PaddedLayout, SequenceLengths
from protoformer.blocks.kernels.planned import kernels_of
from protoformer.blocks.stacks import DecoderStack, EncoderStack, layers_of
from protoformer.errors import ConfigurationError

PackingMode = Literal["auto", "on", "off"]


def build_layout(
    padding_mask: Bool[Tensor, "batch seq"], packing: PackingMode, lengths: SequenceLengths | None = None
) -> Layout:
    """The layout that layers run on. "auto" packs unless the graph is being compiled, which needs fixed shapes.

    Where the host's `lengths` say that nothing is padded there is no mask, so that attention may run without one; on a GPU
    then packing would only copy.
    """
    batch, seq = padding_mask.shape
    packed = packing == "on" or (packing == "auto" and not torch.compiler.is_compiling())
    full = lengths is not None and lengths.full
    if packed and not (full and kernels_of(padding_mask) != "cpu"):
        return PackedLayout(padding_mask, lengths)
    return PaddedLayout(batch, seq, None if full else padding_mask, lengths=lengths)


def compile_layers(model: nn.Module) -> None:
    """torch.compile each layer in place, so that one graph serves all layers of a stack, on padded batches (a packed one has
    another size each time). Names of weights stay as they are."""
    if getattr(model, "packing", "off") == "auto":
        model.packing = "off"  # type: ignore[assignment]  # of a Backbone or an EncoderDecoder
    for layer in layers_of(model):
        layer.compile()


def check_length(seq: int, max_seq_len: int) -> None:
    """Raise IndexError for a sequence that is longer than the model's positions."""
    if seq > max_seq_len:
        raise IndexError(f"a sequence of {seq} tokens; the model has {max_seq_len} positions")


def check_ids(model: nn.Module, texts: str, ids: Any, segment_ids: Any = None) -> None:
    """Raise ConfigurationError for a token or a token type (segment) that has no row in the model's embeddings.

    `ids` and `segment_ids` are arrays or tensors of any shape, `texts` names them in the message. Models whose embeddings have
    another form are not checked.
    """
    embeddings = getattr(model, "embeddings", None)
    for name, table, array in (
        ("token", getattr(embeddings, "token", None), ids),
        ("segment", getattr(embeddings, "segment", None), segment_ids),
    ):
        if not isinstance(table, nn.Embedding) or array is None or not len(array):
            continue
        largest, rows = int(array.max()), table.num_embeddings
        if largest < rows:
            continue
        if name == "segment":
            raise ConfigurationError(
                f"{texts}: pairs of texts are of {largest + 1} segments (token types), and the model has {rows} "
                "(n_segments, type_vocab_size in a config.json): give single texts, or another model"
            )
        raise ConfigurationError(f"{texts}: a token has the id {largest}, and the model has embeddings for {rows}")


class Backbone(nn.Module):
    """ids -> hidden states.

    `packing="on"` runs token-wise work on real tokens alone, "off" on the padded batch (see `build_layout`). Both give the
    same numbers to float tolerance. `activation` and `norm_eps` are kept for heads that are built alike, as is
    `tie_word_embeddings`: whether a language model's output matrix is the token embedding.
    """

    causal: bool  # a token attends to none after itself
    # of layers that earlier weights may lack, and that then start fresh
    optional_prefixes: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self,
        embeddings: Embeddings,
        stack: EncoderStack | DecoderStack,
        pooler: nn.Module,
        *,
        d_model: int,
        max_seq_len: int,
        dropout: float,
        packing: PackingMode = "auto",
        activation: Activation = "gelu",
        norm_eps: float = 1e-12,
        tie_word_embeddings: bool = True,
    ) -> None:
        super().__init__()
        self.tie_word_embeddings = tie_word_embeddings
        self.embeddings, self.stack, self.pooler = embeddings, stack, pooler
        self.activation: Activation = activation
        self.norm_eps = norm_eps
        self.d_model, self.max_seq_len, self.dropout, self.packing = d_model, max_seq_len, dropout, packing

    @property
    def output_weight(self) -> Float[Tensor, "vocab d_model"]:
        """The matrix from hidden states to logits of a language model: the token embedding, where the model has no other."""
        return self.embeddings.token.weight

    def layout(self, padding_mask: Bool[Tensor, "batch seq"], lengths: SequenceLengths | None = None) -> Layout:
        return build_layout(padding_mask, self.packing, lengths)

    def forward(
        self,
        ids: Int[Tensor, "batch seq"],
        padding_mask: Bool[Tensor, "batch seq"],
        segment_ids: Int[Tensor, "batch seq"] | None = None,
        attn_layers: Collection[int] = (),
        lengths: SequenceLengths | None = None,
    ) -> HiddenStates:
        """Hidden states, with the attention weights of the layers whose indices are in `attn_layers`.

        `lengths` are those of `padding_mask`, where the host knows them. Raises IndexError when a sequence is longer than the
        model's positions.
        """
        check_length(ids.shape[1], self.max_seq_len)
        layout = self.layout(padding_mask, lengths)
        # (tokens, d_model) where the layout packs, else (batch, seq, d_model)
        x = self.embeddings(
            layout.pack(ids),
            layout.positions(ids.device),
            None if segment_ids is None or self.embeddings.segment is None else layout.pack(segment_ids),
        )
        return self.stack(x, layout, attn_layers=attn_layers)
