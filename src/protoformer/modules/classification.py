"""One label, or one number, a text (arXiv 1810.04805, section 4.1): encoder, pooler, linear head.

Scores are computed from all examples of a split, each once, whatever the number of ranks: logits go by example id.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from protoformer.batches import ClassificationBatch
from protoformer.models.backbone import Backbone
from protoformer.models.heads import ClassificationHead
from protoformer.modules.evaluation import Columns, Evaluation, Stage
from protoformer.modules.objective import Loss, ObjectiveModule, Optimization
from protoformer.scoring import glue
from protoformer.scoring.glue import Metric


@dataclass(frozen=True, kw_only=True)
class Outputs(Evaluation):
    """All of a split in order of id: logits `examples labels`, references `examples` (-1: hidden)."""

    ids: Int[Tensor, "examples"]
    logits: Float[Tensor, "examples labels"]
    references: Tensor
    labels: Sequence[str] | None

    def rows(self) -> Iterator[dict[str, Any]]:
        """Labels in words. A hidden reference (-1) is null."""
        if self.labels is None:
            for number, logits, gold in zip(self.ids, self.logits[:, 0], self.references, strict=True):
                label = None if gold == -1 else round(float(gold), 4)
                yield {"id": int(number), "prediction": round(float(logits), 4), "label": label}
            return
        shares = self.logits.softmax(-1).tolist()
        best = self.logits.argmax(-1).tolist()
        for number, share, guess, gold in zip(self.ids, shares, best, self.references.tolist(), strict=True):
            yield {
                "id": int(number),
                "prediction": self.labels[guess],
                "label": None if gold == -1 else self.labels[int(gold)],
                "probabilities": {word: round(p, 5) for word, p in zip(self.labels, share, strict=True)},
            }

    def mistakes(self, texts: Sequence[str]) -> list[list[Any]]:
        """The last column is the probability (regression: the distance)."""
        found = []
        for row in self.rows():
            if row["label"] is None or row["label"] == row["prediction"]:
                continue
            worth = row["probabilities"][row["prediction"]] if self.labels else abs(row["prediction"] - row["label"])
            found.append([texts[row["id"]], row["label"], row["prediction"], worth])
        return sorted(found, key=lambda row: -row[3])


class ClassificationModule(ObjectiveModule):
    """`labels` None makes it regression with squared error."""

    def __init__(
        self,
        *,
        backbone: Backbone,
        labels: Sequence[str] | None,
        metrics: Sequence[Metric],
        splits: Mapping[Stage, Sequence[str]],
        optimization: Optimization | None = None,
    ) -> None:
        super().__init__(optimization)
        self.backbone = backbone
        self.labels, self.metrics, self.splits = labels, metrics, splits
        self.head = ClassificationHead(backbone.d_model, len(labels) if labels else 1, backbone.dropout)

    def forward(self, batch: ClassificationBatch) -> Float[Tensor, "batch labels"]:
        hidden = self.backbone(batch["ids"], batch["padding_mask"], batch["segment_ids"])
        return self.head(self.backbone.pooler(hidden, batch["pooler_position"]))

    def blank_batch(self, batch: int, seq: int) -> ClassificationBatch:
        zeros = torch.zeros(batch, seq, dtype=torch.long)
        return ClassificationBatch(
            ids=zeros,
            padding_mask=torch.ones(batch, seq, dtype=torch.bool),
            segment_ids=zeros,
            pooler_position=zeros[:, 0],
            example_ids=zeros[:, 0],
            labels=zeros[:, 0] if self.labels else zeros[:, 0].float(),
        )

    def loss(self, batch: ClassificationBatch) -> Loss:
        real = batch["example_ids"] >= 0
        return self._loss(self(batch).float(), batch["labels"], real)

    def _loss(self, logits: Tensor, labels: Tensor, real: Tensor) -> Loss:
        if self.labels is None:
            each = (logits[:, 0] - labels) ** 2
        else:
            each = functional.cross_entropy(logits, labels, reduction="none")
        return Loss((each * real).sum(), real.sum())

    def observe(self, batch: ClassificationBatch) -> Columns:
        real = batch["example_ids"] >= 0
        return batch["example_ids"][real], self(batch)[real].float(), batch["labels"][real]

    def evaluate(self, stage: Stage, split: str, columns: Columns) -> Outputs:
        ids, logits, references = columns
        scores: dict[str, float] = {}
        numbers: dict[str, float] = {}
        known = references != -1
        if known.any():
            loss = self._loss(logits[known], references[known], known[known])
            numbers = {"loss": float(loss.total / loss.targets)}
            scores = glue.score(self.metrics, logits[known], references[known])
        return Outputs(
            scores=scores, numbers=numbers, ids=ids, logits=logits, references=references, labels=self.labels
        )
