"""One label, or one number, a text (arXiv 1810.04805, section 4.1): encoder, pooler, linear head.

Scores are computed from all examples of a split, each once, whatever the number of ranks: logits go by example id.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from protoformer.batches import ClassificationBatch
from protoformer.models.encoder import Encoder
from protoformer.models.heads import ClassificationHead
from protoformer.modules.objective import Loss, ObjectiveModule, Optimization
from protoformer.scoring import glue
from protoformer.scoring.glue import Metric

Stage = Literal["val", "test"]


@dataclass(frozen=True)
class Outputs:
    """All of a split in order of id: logits `examples labels`, references `examples` (-1: hidden)."""

    ids: Int[Tensor, "examples"]
    logits: Float[Tensor, "examples labels"]
    references: Tensor


class ClassificationModule(ObjectiveModule):
    """`labels` None makes it regression with squared error. `splits` names each stage's loaders, in order.

    After a validation or test epoch `outputs[stage][split]` holds all of its logits, and `scores` its numbers.
    """

    def __init__(
        self,
        *,
        backbone: Encoder,
        labels: Sequence[str] | None,
        metrics: Sequence[Metric],
        splits: Mapping[Stage, Sequence[str]],
        optimization: Optimization | None = None,
    ) -> None:
        super().__init__(optimization)
        self.backbone = backbone
        self.labels, self.metrics, self.splits = labels, metrics, splits
        self.head = ClassificationHead(backbone.d_model, len(labels) if labels else 1, backbone.dropout)
        self.parts: dict[str, list[tuple[Tensor, Tensor, Tensor]]] = {}
        self.outputs: dict[Stage, dict[str, Outputs]] = {}

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

    def validation_step(self, batch: ClassificationBatch, batch_idx: int, dataloader_idx: int = 0) -> None:
        self._collect(self.splits["val"][dataloader_idx], batch)

    def test_step(self, batch: ClassificationBatch, batch_idx: int, dataloader_idx: int = 0) -> None:
        self._collect(self.splits["test"][dataloader_idx], batch)

    def _collect(self, split: str, batch: ClassificationBatch) -> None:
        real = batch["example_ids"] >= 0
        row = (batch["example_ids"][real], self(batch)[real].float(), batch["labels"][real])
        self.parts.setdefault(split, []).append((row[0].cpu(), row[1].cpu(), row[2].cpu()))

    def on_validation_epoch_end(self) -> None:
        self._score("val")

    def on_test_epoch_end(self) -> None:
        self._score("test")

    def _score(self, stage: Stage) -> None:
        self.outputs[stage] = {split: self._gather(self.parts.get(split, [])) for split in self.splits[stage]}
        self.parts = {}
        numbers: dict[str, float] = {}
        main: dict[str, float] = {}
        for split, outputs in self.outputs[stage].items():
            prefix = f"{stage}/{split}/" if split else f"{stage}/"
            known = outputs.references != -1
            if not known.any():
                continue
            logits, references = outputs.logits[known], outputs.references[known]
            loss = self._loss(logits, references, torch.ones(len(logits), dtype=torch.bool))
            scores = glue.score(self.metrics, logits, references)
            main |= {prefix + name: value for name, value in scores.items()}
            numbers |= {prefix + "loss": float(loss.total / loss.targets)}
        numbers |= main
        if main:
            numbers[f"{stage}/score"] = glue.main_score(main)
        fitting = self.trainer.state.fn == "fit"  # the last look at the best checkpoint is no point of a curve
        place = {"step": float(self.trainer.global_step), "epoch": float(self.trainer.current_epoch)}
        # every rank has the same numbers already; Lightning wants it said
        self.log_dict({**numbers, **place}, batch_size=1, logger=fitting, sync_dist=True)

    def _gather(self, parts: list[tuple[Tensor, Tensor, Tensor]]) -> Outputs:
        """Every rank's rows, each example once, in order of id."""
        mine = tuple(torch.cat(column) for column in zip(*parts, strict=True)) if parts else None
        everyone: list[Any] = [mine]
        if self.trainer.world_size > 1:
            everyone = [None] * self.trainer.world_size
            torch.distributed.all_gather_object(everyone, mine)
        ids, logits, references = (torch.cat(column) for column in zip(*filter(None, everyone), strict=True))
        order = torch.argsort(ids, stable=True)
        order = order[torch.cat([torch.tensor([True]), ids[order][1:] != ids[order][:-1]])]
        return Outputs(ids[order], logits[order], references[order])
