"""Attention rollout (Abnar and Zuidema 2020, arXiv 2005.00928, section 3): how much of each input token a position of layer l
draws on, if attention weights were all that moves information.

A layer's weights are averaged over its heads, and the residual connection counts as half of a layer's output:
A_l = (W_l + I) / 2, and the rollout is A_l A_(l-1) ... A_1. Every row sums to one. A causal mask stays: the product of lower
triangular matrices is one.

Differs: the paper has no encoder-decoder. Here a decoder layer is two steps, each with its residual connection: self-attention,
then cross-attention, which reads the source tokens by the encoder's rollout.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

Rollout = Float[Tensor, "layers queries keys"]


class DecoderRollout(NamedTuple):
    """A decoder's rollout over the targets and over the sources: rows of the two together sum to one."""

    targets: Rollout
    sources: Rollout


def attention_rollout(weights: Float[Tensor, "layers seq seq"]) -> Rollout:
    """The rollout up to each layer, from self-attention weights that are averaged over heads (rows sum to one)."""
    rows = torch.eye(weights.shape[-1], dtype=weights.dtype, device=weights.device)
    rollouts = []
    for layer in weights:
        rows = (rows + layer @ rows) / 2
        rollouts.append(rows)
    return torch.stack(rollouts)


def decoder_rollout(
    weights: Float[Tensor, "layers targets targets"],
    cross_weights: Float[Tensor, "layers targets sources"],
    memory: Float[Tensor, "sources sources"],
) -> DecoderRollout:
    """The rollout up to each decoder layer. `memory` is the rollout of the encoder's last layer.

    Weights are averaged over heads; their rows sum to one.
    """
    targets = torch.eye(weights.shape[-1], dtype=weights.dtype, device=weights.device)
    sources = torch.zeros_like(cross_weights[0])
    rollouts = []
    for layer, cross in zip(weights, cross_weights, strict=True):
        targets, sources = (targets + layer @ targets) / 2, (sources + layer @ sources) / 2
        targets, sources = targets / 2, (sources + cross @ memory) / 2
        rollouts.append((targets, sources))
    return DecoderRollout(*map(torch.stack, zip(*rollouts, strict=True)))
