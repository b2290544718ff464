"""Which of several ways to go on is right (arXiv 1810.04805, section 4.4): each is a pair of its own, and the product of its
pooled vector with one learned vector is its score; a softmax over them.
"""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from protoformer.batches import ChoiceBatch
from protoformer.models.backbone import Backbone
from protoformer.models.heads import ClassificationHead
from protoformer.modules.classification import ClassificationModule
from protoformer.modules.evaluation import Stage
from protoformer.modules.objective import Optimization
from protoformer.scoring.glue import Metric


class MultipleChoiceModule(ClassificationModule):
    """`choices` are the names of the choices, of any number."""

    def __init__(
        self,
        *,
        backbone: Backbone,
        choices: Sequence[str],
        metrics: Sequence[Metric],
        splits: Mapping[Stage, Sequence[str]],
        optimization: Optimization | None = None,
    ) -> None:
        super().__init__(backbone=backbone, labels=choices, metrics=metrics, splits=splits, optimization=optimization)
        self.head = ClassificationHead(backbone.d_model, 1, backbone.dropout)

    def forward(self, batch: ChoiceBatch) -> Float[Tensor, "batch choices"]:
        rows, choices = batch["ids"].shape[:2]
        flat = (batch[name].flatten(0, 1) for name in ("ids", "padding_mask", "segment_ids"))
        hidden = self.backbone(*flat)
        pooled = self.backbone.pooler(hidden, batch["pooler_position"].flatten())
        return self.head(pooled).view(rows, choices)

    def blank_batch(self, batch: int, seq: int) -> ChoiceBatch:
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
