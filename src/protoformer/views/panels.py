"""Panels: the attention weights of one text, rows are queries and columns are keys.

An encoder or a decoder has one panel; an encoder-decoder has three (arXiv 1706.03762, section 3.2.3): encoder self-attention
over the source, decoder self-attention over the target, and cross-attention from the target to the source.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from protoformer.attribution.integrated_gradients import Attributions
from protoformer.blocks import masks
from protoformer.blocks.attention import MultiHeadAttention
from protoformer.blocks.baselines.source_attention import SourceAttention
from protoformer.models.backbone import Backbone
from protoformer.models.encoder_decoder import EncoderDecoder
from protoformer.views.head_statistics import HeadStatistics, head_statistics, telling_head


@dataclass(frozen=True)
class Token:
    """A token's label, and whether it is a special token or padding."""

    text: str
    special: bool = False
    padding: bool = False
    segment: int = 0


@dataclass(frozen=True)
class TokenizedText:
    """Token ids of one text with its padding, and the tokens' labels. Heads read the token at `pooler_position`."""

    ids: Int[Tensor, "seq"]
    tokens: Sequence[Token]
    segment_ids: Int[Tensor, "seq"] | None = None
    pooler_position: int = 0

    def without_padding(self) -> "TokenizedText":
        """The real tokens, which are the first."""
        count = int(self.padding_mask.sum())
        segments = None if self.segment_ids is None else self.segment_ids[:count]
        return TokenizedText(self.ids[:count], self.tokens[:count], segments, self.pooler_position)

    @property
    def padding_mask(self) -> Bool[Tensor, "1 seq"]:
        return _real(self.tokens)[None]


@dataclass(frozen=True)
class TokenAttributions:
    """Attributions of the tokens of one text, without its padding; `target` says whose logit they are of."""

    target: str
    tokens: Sequence[Token]
    attributions: Attributions

    def largest(self, count: int) -> list[tuple[str, float]]:
        """The tokens with the largest |attribution|, the largest first; none of 0."""
        values = self.attributions.values.tolist()
        ranked = sorted(zip(self.tokens, values, strict=True), key=lambda pair: -abs(pair[1]))
        return [(token.text, value) for token, value in ranked[:count] if value]


@dataclass(frozen=True)
class RolloutPanel:
    """Attention rollout up to each layer of a panel, 0 at padding, and what a query can draw on at all."""

    weights: Float[Tensor, "layers queries keys"]
    reach: Bool[Tensor, "queries keys"]


@dataclass(frozen=True)
class Panel:
    """Attention weights of the layers numbered `layers` (1 is next to the embeddings), and what their masks allow."""

    name: str
    queries: Sequence[Token]
    keys: Sequence[Token]
    layers: Sequence[int]
    weights: Float[Tensor, "layers heads queries keys"]
    allowed: Bool[Tensor, "layers queries keys"]
    cross_attention: bool = False
    rollout: RolloutPanel | None = None

    @property
    def visible(self) -> Bool[Tensor, "layers queries keys"]:
        """Allowed by the mask, and the query is not padding."""
        return self.allowed & _real(self.queries)[:, None]

    def statistics(self) -> HeadStatistics:
        """Statistics of each head, over queries and keys that are not padding."""
        return head_statistics(*self._real_weights(), cross_attention=self.cross_attention)

    def telling_head(self) -> tuple[int, int]:
        """Indices of the layer and the head that a page opens on."""
        return telling_head(*self._real_weights(), cross_attention=self.cross_attention)

    def _real_weights(self) -> tuple[Float[Tensor, "layers heads real_queries real_keys"], Bool[Tensor, "real_keys"]]:
        """Weights between tokens that are not padding, and which of the keys are special."""
        real = self.weights[:, :, _real(self.queries)][..., _real(self.keys)]
        return real, torch.tensor([token.special for token in self.keys])[_real(self.keys)]


def attention_layers(model: nn.Module) -> list[MultiHeadAttention | SourceAttention]:
    """All attention modules of a model or a stack: self-attention, cross-attention, and attention to a source."""
    return [module for module in model.modules() if isinstance(module, MultiHeadAttention | SourceAttention)]


@torch.no_grad()
def panels_of_backbone(model: Backbone, text: TokenizedText, layers: Sequence[int]) -> list[Panel]:
    """The self-attention of an encoder or of a decoder alone; `layers` count from 1."""
    # forward and not __call__: a model that is compiled in place would be compiled again for this one call
    hidden = model.forward(*_batch(model, text), attn_layers=[layer - 1 for layer in layers])
    name = "decoder self-attention" if model.causal else "encoder self-attention"
    return [_self_attention(name, model.stack, text, hidden.attn_weights)]


@torch.no_grad()
def panels_of_encoder_decoder(
    model: EncoderDecoder, source: TokenizedText, target: TokenizedText, layers: Sequence[int]
) -> list[Panel]:
    """A panel for each kind of attention that the model has (recurrent and convolutional models: to the source alone).

    Layers that a stack lacks are left out; a kind without any of the layers has no panel.
    """
    attn_layers = [layer - 1 for layer in layers]
    memory = model.encode(*_batch(model, source)[:2], attn_layers)
    hidden = model.decode(*_batch(model, target)[:2], memory, attn_layers)
    panels = []
    if memory.attn_weights:
        panels.append(_self_attention("encoder self-attention", model.encoder, source, memory.attn_weights))
    if hidden.attn_weights:
        panels.append(_self_attention("decoder self-attention", model.decoder, target, hidden.attn_weights))
    if hidden.cross_attn_weights:
        panels.append(_cross_attention(source, target, hidden.cross_attn_weights))
    return panels


def _batch(model: nn.Module, text: TokenizedText) -> tuple[Tensor, Tensor, Tensor]:
    """Ids, padding mask and segments as a batch of one, on the model's device."""
    device = next(model.parameters()).device
    segments = torch.zeros_like(text.ids) if text.segment_ids is None else text.segment_ids
    return text.ids[None].to(device), text.padding_mask.to(device), segments[None].to(device)


def _cross_attention(source: TokenizedText, target: TokenizedText, attn_weights: Mapping[int, Tensor]) -> Panel:
    not_padding = masks.expand_padding_mask(source.padding_mask)[0]
    allowed = not_padding.expand(len(attn_weights), len(target.ids), -1)
    layers = [index + 1 for index in sorted(attn_weights)]
    name = "attention to the source"
    return Panel(name, target.tokens, source.tokens, layers, _stacked(attn_weights), allowed, cross_attention=True)


def _self_attention(name: str, stack: nn.Module, text: TokenizedText, attn_weights: Mapping[int, Tensor]) -> Panel:
    modules = [layer for layer in attention_layers(stack) if isinstance(layer, MultiHeadAttention) and not layer.cross]
    seq = len(text.ids)
    not_padding = masks.expand_padding_mask(text.padding_mask)[0, 0]
    allowed = []
    for index in sorted(attn_weights):
        pattern = masks.layer_mask(seq, seq, modules[index].causal, modules[index].window)
        allowed.append(not_padding.expand(seq, seq) if pattern is None else pattern & not_padding)
    layers = [index + 1 for index in sorted(attn_weights)]
    return Panel(name, text.tokens, text.tokens, layers, _stacked(attn_weights), torch.stack(allowed))


def _stacked(attn_weights: Mapping[int, Tensor]) -> Float[Tensor, "layers heads queries keys"]:
    return torch.stack([attn_weights[index][0].float().cpu() for index in sorted(attn_weights)])


def _real(tokens: Iterable[Token]) -> Bool[Tensor, "seq"]:
    return torch.tensor([not token.padding for token in tokens])
