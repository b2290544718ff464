"""Attention of one text as panels, all of one kind: rows are the tokens that look, columns those that are looked at.

An encoder or a decoder alone is one panel; an encoder-decoder has three (arXiv 1706.03762, section 3.2.3): the encoder over
the source, the decoder over the target, and the decoder over the source.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from protoformer.blocks import masks
from protoformer.blocks.attention import MultiHeadAttention
from protoformer.blocks.baselines.source_attention import SourceAttention
from protoformer.models.backbone import Backbone
from protoformer.models.encoder_decoder import EncoderDecoder
from protoformer.views.head_statistics import HeadNumbers, head_numbers


@dataclass(frozen=True)
class Token:
    """A token as it is shown. `special` ones are no text; `padding` is no token at all."""

    text: str
    special: bool = False
    padding: bool = False
    segment: int = 0


@dataclass(frozen=True)
class Sequenced:
    """One text as a model reads it, padding included, and how its tokens are shown."""

    ids: Int[Tensor, "seq"]
    tokens: Sequence[Token]
    segment_ids: Int[Tensor, "seq"] | None = None

    @property
    def padding_mask(self) -> Bool[Tensor, "1 seq"]:
        return _real(self.tokens)[None]


@dataclass(frozen=True)
class Panel:
    """Weights of the layers numbered `layers` (from 1, next to the embeddings), and what their masks allow."""

    name: str
    queries: Sequence[Token]
    keys: Sequence[Token]
    layers: Sequence[int]
    weights: Float[Tensor, "layers heads queries keys"]
    allowed: Bool[Tensor, "layers queries keys"]
    crosses: bool = False

    @property
    def seen(self) -> Bool[Tensor, "layers queries keys"]:
        """What is worth a look: the mask allows it, and the query is a token."""
        return self.allowed & _real(self.queries)[:, None]

    def numbers(self) -> HeadNumbers:
        """What each head looks at; padding counts neither as a query nor as a key."""
        real = self.weights[:, :, _real(self.queries)][..., _real(self.keys)]
        special = torch.tensor([token.special for token in self.keys])[_real(self.keys)]
        return head_numbers(real, special, crosses=self.crosses)


def attending(model: nn.Module) -> list[MultiHeadAttention | SourceAttention]:
    """All attention in a model or a stack, over a sequence itself or over another; none where nothing attends."""
    return [part for part in model.modules() if isinstance(part, MultiHeadAttention | SourceAttention)]


@torch.no_grad()
def of_backbone(model: Backbone, text: Sequenced, layers: Sequence[int]) -> list[Panel]:
    """The self-attention of an encoder or of a decoder alone; `layers` count from 1."""
    # forward itself: a model that is compiled in place would be compiled anew for this one call
    hidden = model.forward(*_batch(model, text), attn_layers=[layer - 1 for layer in layers])
    name = "decoder self-attention" if model.causal else "encoder self-attention"
    return [_self_attention(name, model.stack, text, hidden.attn_weights)]


@torch.no_grad()
def of_encoder_decoder(
    model: EncoderDecoder, source: Sequenced, target: Sequenced, layers: Sequence[int]
) -> list[Panel]:
    """The three kinds of attention, or those that the model has: recurrent and convolutional ones look at the source alone.

    A stack that lacks a layer shows the others; one that has none of them shows no panel.
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


def _batch(model: nn.Module, text: Sequenced) -> tuple[Tensor, Tensor, Tensor]:
    """Ids, padding mask and segments, as a batch of one where the model lies."""
    device = next(model.parameters()).device
    segments = torch.zeros_like(text.ids) if text.segment_ids is None else text.segment_ids
    return text.ids[None].to(device), text.padding_mask.to(device), segments[None].to(device)


def _cross_attention(source: Sequenced, target: Sequenced, attn_weights: Mapping[int, Tensor]) -> Panel:
    real = masks.expand_padding_mask(source.padding_mask)[0]
    allowed = real.expand(len(attn_weights), len(target.ids), -1)
    layers = [number + 1 for number in sorted(attn_weights)]
    name = "attention to the source"
    return Panel(name, target.tokens, source.tokens, layers, _stacked(attn_weights), allowed, crosses=True)


def _self_attention(name: str, stack: nn.Module, text: Sequenced, attn_weights: Mapping[int, Tensor]) -> Panel:
    parts = [part for part in attending(stack) if isinstance(part, MultiHeadAttention) and not part.cross]
    seq = len(text.ids)
    real = masks.expand_padding_mask(text.padding_mask)[0, 0]
    allowed = []
    for number in sorted(attn_weights):
        pattern = masks.layer_mask(seq, seq, parts[number].causal, parts[number].window)
        allowed.append(real.expand(seq, seq) if pattern is None else pattern & real)
    layers = [number + 1 for number in sorted(attn_weights)]
    return Panel(name, text.tokens, text.tokens, layers, _stacked(attn_weights), torch.stack(allowed))


def _stacked(attn_weights: Mapping[int, Tensor]) -> Float[Tensor, "layers heads queries keys"]:
    return torch.stack([attn_weights[number][0].float().cpu() for number in sorted(attn_weights)])


def _real(tokens: Iterable[Token]) -> Bool[Tensor, "seq"]:
    return torch.tensor([not token.padding for token in tokens])
