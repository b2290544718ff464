"""Attention rollout of the panels of a page, over all layers, whichever of them the page shows."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from protoformer.attribution.rollout import Rollout, attention_rollout, decoder_rollout
from protoformer.models.encoder_decoder import EncoderDecoder
from protoformer.views.inspected_model import InspectedModel, attention_panels
from protoformer.views.panels import Panel, RolloutPanel, TokenizedText

MAX_NUMBERS = 2**25  # attention weights that are in memory at once

MeanWeights = Float[Tensor, "layers queries keys"]


def with_rollout(inspected: InspectedModel, texts: Sequence[TokenizedText], panels: Sequence[Panel]) -> list[Panel]:
    """The panels with their rollout up to each of their layers.

    Panels without self-attention below them (recurrent and convolutional models) stay as they are.
    """
    means = _mean_weights(inspected, [text.without_padding() for text in texts])
    encoder, decoder, cross = (
        means.get(name) for name in ("encoder self-attention", "decoder self-attention", "attention to the source")
    )
    rollouts: dict[str, Rollout] = {}
    if encoder is not None:
        rollouts["encoder self-attention"] = attention_rollout(encoder)
    if decoder is not None and not isinstance(inspected.model, EncoderDecoder):
        rollouts["decoder self-attention"] = attention_rollout(decoder)
    if encoder is not None and decoder is not None and cross is not None:
        of_decoder = decoder_rollout(decoder, cross, rollouts["encoder self-attention"][-1])
        rollouts["decoder self-attention"], rollouts["attention to the source"] = of_decoder
    return [
        replace(panel, rollout=_shown(panel, rollouts[panel.name])) if panel.name in rollouts else panel
        for panel in panels
    ]


def _mean_weights(inspected: InspectedModel, texts: Sequence[TokenizedText]) -> dict[str, MeanWeights]:
    """Attention weights of all layers, averaged over heads, of each kind of attention by name."""
    means: dict[str, list[MeanWeights]] = {}
    for layers in _groups(inspected, texts):
        for panel in attention_panels(inspected, texts, layers):
            means.setdefault(panel.name, []).append(panel.weights.mean(1))
    return {name: torch.cat(parts) for name, parts in means.items()}


def _groups(inspected: InspectedModel, texts: Sequence[TokenizedText]) -> Iterator[list[int]]:
    """Layers, from 1, as many at a time as memory should hold the weights of."""
    of_layer = inspected.n_heads * sum(len(text.ids) for text in texts) ** 2
    size = max(1, MAX_NUMBERS // of_layer)
    layers = list(range(1, inspected.n_layers + 1))
    return (layers[first : first + size] for first in range(0, len(layers), size))


def _shown(panel: Panel, rollout: Rollout) -> RolloutPanel:
    """The layers of a panel, with zeros in place of padding."""
    missing = (0, len(panel.keys) - rollout.shape[2], 0, len(panel.queries) - rollout.shape[1])
    weights = functional.pad(rollout[[layer - 1 for layer in panel.layers]], missing)
    return RolloutPanel(weights, _reach(panel))


def _reach(panel: Panel) -> Bool[Tensor, "queries keys"]:
    """What a position can draw on: all that is no padding, and where every layer is causal nothing later."""
    causal = not panel.cross_attention and not panel.allowed.any(0).triu(1).any()
    real_queries, real_keys = (
        torch.tensor([not token.padding for token in tokens]) for tokens in (panel.queries, panel.keys)
    )
    reach = real_queries[:, None] & real_keys
    return reach.tril() if causal else reach
