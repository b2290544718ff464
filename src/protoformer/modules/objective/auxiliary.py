"""Auxiliary language-model loss of fine-tuning (Radford et al. 2018, section 3.2, equation 5): L3 = L2 + lambda L1, where L2 is
the task's loss.

L1 of a sequence is the mean of -log P(token | tokens before it) over its tokens but the first, the special ones among them,
as in the paper's code; of an example it is the mean over its sequences (its choices, or both orders of a pair). It is added to
the training loss only.

Differs: the softmax is over tokens alone (in the paper's code the position embeddings are rows of the same matrix).
"""

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from protoformer.blocks.kernels.packing import HiddenStates, SequenceLengths
from protoformer.errors import ConfigurationError
from protoformer.models.backbone import Backbone
from protoformer.models.decoder import Decoder
from protoformer.modules.objective.loss import Loss
from protoformer.modules.objective.targets import has_next_token, next_token_losses


class AuxiliaryLanguageModel:
    """Adds lambda L1, computed with the decoder's token embedding; `weight` is lambda, and 0 adds nothing.

    Raises ConfigurationError for a negative weight, and for a positive one with a model that is no decoder.
    """

    def __init__(self, backbone: Backbone, weight: float) -> None:
        if not 0 <= weight < math.inf:
            raise ConfigurationError(
                f"recipe.aux_lm_weight={weight} is out of range; expected a number from 0 (no auxiliary objective)"
            )
        if weight and not isinstance(backbone, Decoder):
            raise ConfigurationError(
                f"recipe.aux_lm_weight={weight} needs a decoder (gpt, gpt2, ...), which predicts each next token; this model "
                "is none: recipe.aux_lm_weight=0"
            )
        if not weight and isinstance(backbone, Decoder) and backbone.output is not None:
            backbone.output.requires_grad_(False)  # unused: DDP would wait for its gradient
        self.weight = weight
        self.softmax_weights = backbone.d_model * backbone.embeddings.token.num_embeddings

    def add_to(
        self,
        loss: Loss,
        hidden: HiddenStates,
        ids: Int[Tensor, "sequences seq"],
        embedding: Float[Tensor, "vocab d_model"],
        real: Bool[Tensor, "batch"],
        present: Bool[Tensor, "batch sequences_each"] | None = None,
    ) -> Loss:
        """L3 from L2, a loss whose targets are the examples that `real` marks.

        `ids` has the sequences of the first example, then those of the second, ...; `hidden` are their hidden states. Sequences
        that are not `present` (choices that an example lacks) do not count.
        """
        if not self.weight:
            return loss
        losses = next_token_losses(hidden, ids, embedding).view(len(real), -1)
        example_losses = losses.mean(1)
        if present is not None:
            of_present = (losses * present).sum(1) / present.sum(1)
            example_losses = torch.where(present.all(1), example_losses, of_present)
        total = (example_losses * real).sum()
        return Loss(
            loss.total + self.weight * total,
            loss.targets,
            {**loss.running_metrics, "task_loss": (loss.total, loss.targets), "lm_loss": (total, real.sum())},
        )

    def flops(self, padding_mask: Bool[Tensor, "*rows seq"], lengths: SequenceLengths | None = None) -> Tensor | float:
        """Floating-point operations of the softmax, forward and backward."""
        if not self.weight:
            return 0.0
        if lengths is not None:
            return 6.0 * self.softmax_weights * lengths.next_tokens
        return 6.0 * self.softmax_weights * has_next_token(padding_mask.flatten(0, -2)).sum().double()
