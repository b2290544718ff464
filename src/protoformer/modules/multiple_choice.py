"""Multiple choice (arXiv 1810.04805, section 4.4; Radford et al. 2018, section 3.3): each choice is encoded as a pair with the
context, and scored by the product of its pooled vector with one learned vector; the softmax is over the choices.

Differs: the dropout before that product is drawn for each choice (GPT's code draws one for all choices of an example).
"""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from protoformer.batches import ChoiceBatch
from protoformer.blocks.kernels.packing import HiddenStates
from protoformer.errors import ConfigurationError
from protoformer.models.backbone import Backbone
from protoformer.models.heads import ClassificationHead
from protoformer.modules.classification import AnyBatch, ClassificationModule
from protoformer.modules.evaluation import Stage
from protoformer.modules.queries import Query, QueryEncoder, RankedPredictions, ranked
from protoformer.optim.optimization import Optimization
from protoformer.scoring.glue import Metric


class MultipleChoiceModule(ClassificationModule):
    """`choices` are the names of the choices; every example has as many."""

    takes_choices = True

    def __init__(
        self,
        *,
        backbone: Backbone,
        choices: Sequence[str],
        metrics: Sequence[Metric],
        splits: Mapping[Stage, Sequence[str]],
        aux_lm_weight: float = 0.0,
        optimization: Optimization | None = None,
    ) -> None:
        super().__init__(
            backbone=backbone,
            labels=choices,
            metrics=metrics,
            splits=splits,
            aux_lm_weight=aux_lm_weight,
            optimization=optimization,
        )
        self.head = ClassificationHead(backbone.d_model, 1, backbone.dropout)

    def logits(self, hidden: HiddenStates, batch: AnyBatch) -> Float[Tensor, "batch choices"]:
        """A score a choice: the head has one output, and the choices are rows of `hidden`.

        A choice that an example lacks has a pooler position of -1; its probability is 0.
        """
        position = batch["pooler_position"]
        pooled = self.backbone.pooler(hidden, position.clamp(min=0).flatten())
        # (batch x choices, d_model) -> (batch x choices, 1) -> (batch, choices)
        return self.head(pooled).view(position.shape).masked_fill(position < 0, -torch.inf)

    def predict_query(self, query: Query, encoder: QueryEncoder) -> list[RankedPredictions]:
        if len(query.choices) < 2 or query.pair is not None:
            raise ConfigurationError(
                "this run's task selects one of several choices: --text A --choice B --choice C ..., without --pair"
            )
        batch = encoder.encode_texts([query.text] * len(query.choices), query.choices)
        # the choices are the sequences of one example: (1, choices, seq)
        (logits,) = self({name: tensor[None] for name, tensor in batch.items() if name != "example_ids"})
        return [RankedPredictions("choice", ranked(query.choices, logits, query.top))]

    def dummy_batch(self, batch: int, seq: int) -> ChoiceBatch:
        choices = len(self.labels or ())
        zeros = torch.zeros(batch, choices, seq, dtype=torch.long)
        return ChoiceBatch(
            ids=zeros,
            padding_mask=torch.ones(batch, choices, seq, dtype=torch.bool),
            segment_ids=zeros,
            pooler_position=zeros[:, :, 0],
            example_ids=zeros[:, 0, 0],
            labels=zeros[:, 0, 0],
        )
