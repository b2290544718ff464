"""The language model as an auxiliary objective of fine-tuning (Radford et al. 2018, section 3.2, equation 5):
L3 = L2 + lambda L1, where L2 is the task's own loss.

L1 of a sequence is the mean of -log P(token | tokens before it) over its tokens but the first, the special ones among them,
as in the paper's code; of an example it is the mean over its sequences (its choices, or both orders of a pair). It is a part
of the loss that is trained on, and of none that is validated.

Differs: the softmax is over tokens alone (in the paper's code the position embeddings stand in the same matrix).
"""

import math

from jaxtyping import Bool, Float, Int
from torch import Tensor

from protoformer.blocks.kernels.packing import HiddenStates
from protoformer.errors import ConfigurationError
from protoformer.models.backbone import Backbone
from protoformer.models.decoder import Decoder
from protoformer.modules.loss import Loss
from protoformer.modules.targets import follows, sequence_losses


class AuxiliaryLanguageModel:
    """lambda L1 of a batch, by the token embedding of the decoder that reads it; nothing where lambda is 0.

    Raises ConfigurationError for a lambda below 0, and above 0 for a model that is no decoder.
    """

    def __init__(self, backbone: Backbone, weight: float) -> None:
        if not 0 <= weight < math.inf:
            raise ConfigurationError(
                f"recipe.aux_lm_weight={weight} is out of range; it wants a number from 0 (no language model beside the task)"
            )
        if weight and not isinstance(backbone, Decoder):
            raise ConfigurationError(
                f"recipe.aux_lm_weight={weight} wants a decoder (gpt, gpt2, ...), which tells each next token; this model is "
                "none: recipe.aux_lm_weight=0"
            )
        self.weight = weight
        self.size = backbone.d_model * backbone.embeddings.token.num_embeddings

    def added(
        self,
        loss: Loss,
        hidden: HiddenStates,
        ids: Int[Tensor, "sequences seq"],
        embedding: Float[Tensor, "vocab d_model"],
        real: Bool[Tensor, "batch"],
    ) -> Loss:
        """L3: a loss whose targets are the real examples, with the language model's added, example by example.

        `hidden` are those of `ids`, whose rows are the sequences of one example after another.
        """
        if not self.weight:
            return loss
        each = sequence_losses(hidden, ids, embedding).view(len(real), -1).mean(1)
        total = (each * real).sum()
        return Loss(
            loss.total + self.weight * total, loss.targets, {**loss.running_metrics, "lm_loss": (total, real.sum())}
        )

    def flops(self, padding_mask: Bool[Tensor, "*rows seq"]) -> Tensor | float:
        """Forward and backward operations of the softmax."""
        return 6.0 * self.size * follows(padding_mask.flatten(0, -2)).sum().double() if self.weight else 0.0
