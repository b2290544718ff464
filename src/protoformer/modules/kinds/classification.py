"""Classification and regression of a text or a pair: backbone, pooler, linear head (arXiv 1810.04805, section 4.1; Radford et
al. 2018, section 3.2). Of a pair that is encoded in both orders the two pooled vectors are summed (the same, section 3.3).
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from protoformer.batches import ChoiceBatch, ClassificationBatch
from protoformer.blocks.kernels.packing import HiddenStates
from protoformer.errors import ConfigurationError
from protoformer.models.backbone import Backbone
from protoformer.models.heads import ClassificationHead
from protoformer.modules.evaluation import EvalOutputs, PredictionRow, Stage, gather_examples
from protoformer.modules.kinds.classification_evaluation import ClassificationEvaluation
from protoformer.modules.logit_targets import EncodedQuery, LogitTarget, label_target, pooler_positions
from protoformer.modules.objective.auxiliary import AuxiliaryLanguageModel
from protoformer.modules.objective.class_weights import balanced_weights, checked_weights, warn_of_missing
from protoformer.modules.objective.loss import Loss
from protoformer.modules.queries import (
    Prediction,
    Query,
    QueryColumns,
    QueryEncoder,
    RankedPredictions,
    ranked,
    rounded,
)
from protoformer.modules.task_module import TaskModule
from protoformer.optim.optimization import Optimization
from protoformer.scoring import classification as scoring
from protoformer.scoring.classification import MetricName, TorchMetric

AnyBatch = ClassificationBatch | ChoiceBatch


class ClassificationModule(TaskModule[AnyBatch, None]):
    """Cross-entropy over `labels`, or squared error where `labels` is None (regression). `aux_lm_weight` is lambda of the
    auxiliary language model (see `auxiliary`).

    `class_weights` are a number a label, or "balanced": the number of training rows over the number of labels times that of
    the label's own rows. The mean loss is then sum(w_i loss_i) / sum(w_i) over a global batch, as in torch's
    `CrossEntropyLoss(weight)`, and so is the loss of a dev split.
    """

    all_probabilities = True
    scores_classes: ClassVar[bool] = True  # whether scores of each label mean something
    backbone: Backbone
    class_weights: Tensor | None

    def __init__(
        self,
        *,
        backbone: Backbone,
        labels: Sequence[str] | None,
        metrics: Sequence[MetricName | TorchMetric],
        splits: Mapping[Stage, Sequence[str]],
        aux_lm_weight: float = 0.0,
        class_weights: Sequence[float] | Literal["balanced"] | None = None,
        optimization: Optimization | None = None,
    ) -> None:
        super().__init__(optimization)
        scoring.check_metrics(metrics, labels)
        self.backbone = backbone
        self.labels, self.metrics, self.splits = labels, list(metrics), splits
        self.is_balanced = class_weights == "balanced"
        self.register_buffer("class_weights", checked_weights(class_weights, labels, aux_lm_weight), persistent=False)
        self.auxiliary = AuxiliaryLanguageModel(backbone, aux_lm_weight)
        self.head = ClassificationHead(backbone.d_model, len(labels) if labels else 1, backbone.dropout)

    def prepare_training(self, table: Any) -> None:
        if self.labels is None:
            return
        if self.is_balanced:
            self.class_weights = balanced_weights(table.labels, self.labels).to(self.device)
        elif self.scores_classes:
            warn_of_missing(table.labels, self.labels)

    def forward(self, batch: AnyBatch) -> Float[Tensor, "batch labels"]:
        return self.logits(self.hidden(batch), batch)

    def hidden(self, batch: AnyBatch) -> HiddenStates:
        """Hidden states of all sequences: `(batch, sequences, seq)` is read as `(batch x sequences, seq)`."""
        return self.backbone(
            batch["ids"].flatten(0, 1),
            batch["padding_mask"].flatten(0, 1),
            batch["segment_ids"].flatten(0, 1),
            lengths=batch.get("lengths"),
        )

    def logits(self, hidden: HiddenStates, batch: AnyBatch) -> Float[Tensor, "batch labels"]:
        return self.pooled_logits(self.pooled(hidden, batch), batch)

    def pooled_logits(
        self, pooled: Float[Tensor, "batch sequences d_model"], batch: Any
    ) -> Float[Tensor, "batch labels"]:
        """The pooled vectors of an example's sequences are summed before the head."""
        return self.head(pooled.sum(1))

    def pooled(self, hidden: HiddenStates, batch: AnyBatch) -> Float[Tensor, "batch sequences d_model"]:
        """The pooled vector of each sequence of each example; `sequences` is 1, or 2 where a pair has both orders."""
        position = batch["pooler_position"]  # (batch, sequences); -1: an example lacks the sequence
        return self.backbone.pooler(hidden, position.clamp(min=0).flatten()).unflatten(0, (len(position), -1))

    def flops(self, batch: AnyBatch) -> Tensor:
        return super().flops(batch) + self.auxiliary.flops(batch["padding_mask"], batch.get("lengths"))

    def dummy_batch(self, batch: int, seq: int) -> ClassificationBatch:
        zeros = torch.zeros(batch, 1, seq, dtype=torch.long)
        return ClassificationBatch(
            ids=zeros,
            padding_mask=torch.ones(batch, 1, seq, dtype=torch.bool),
            segment_ids=zeros,
            pooler_position=zeros[:, :, 0],
            example_ids=zeros[:, 0, 0],
            labels=zeros[:, 0, 0] if self.labels else zeros[:, 0, 0].float(),
        )

    @property
    def row_labels(self) -> Sequence[str]:
        return self.labels or ()

    def query_columns(self, reader: Any) -> QueryColumns:
        return QueryColumns([reader.text_a], reader.text_b)

    def predict_queries(self, queries: Sequence[Query], encoder: QueryEncoder) -> list[list[RankedPredictions]]:
        reader = encoder.reader
        pairs = [query.pair for query in queries if query.pair is not None]
        if not encoder.of_run and not pairs:
            reader = replace(reader, text_b=None)
        paired = reader.text_b is not None
        if len(pairs) != (len(queries) if paired else 0):
            takes = "two texts: --text A --pair B" if paired else "one text: --text A, without --pair"
            raise ConfigurationError(f"this run's task takes {takes}")
        columns = {reader.text_a: [query.text for query in queries]} | ({reader.text_b: pairs} if paired else {})
        rows = encoder.encode_rows(columns, reader)
        _, logits, _ = gather_examples([self.eval_step(batch) for batch in rows.batches()], world_size=1)
        if self.labels is None:
            return [[RankedPredictions("value", [Prediction(f"{float(row[0]):.4f}")])] for row in logits]
        labels = self.labels
        return [
            [RankedPredictions("label", ranked(labels, row, query.top))]
            for row, query in zip(logits, queries, strict=True)
        ]

    def logit_target(self, query: EncodedQuery) -> LogitTarget:
        """Of a regression its value. Of one sequence alone, where a pair has both orders."""

        def logits(hidden: HiddenStates) -> Float[Tensor, "batch labels"]:
            return self.head(self.backbone.pooler(hidden, pooler_positions(hidden, query.pooler_position)))

        return label_target(query, logits, self._logit_names())

    def _logit_names(self) -> Sequence[str]:
        return self.labels or ["value"]

    def prediction_row(self, query: Query, rankings: Sequence[RankedPredictions]) -> PredictionRow:
        """The label, and the probability of each in order of the labels; of a regression the number."""
        (ranking,) = rankings
        if self.labels is None:
            return {"prediction": float(ranking.predictions[0].text)}
        probs = {each.text: rounded(each.probability or 0.0) for each in ranking.predictions}
        probs = {label: probs[label] for label in self.labels if label in probs}
        return {"prediction": ranking.predictions[0].text, "probabilities": probs}

    def loss(self, batch: AnyBatch) -> Loss:
        real = batch["example_ids"] >= 0
        hidden = self.hidden(batch)
        loss = self._loss(self.logits(hidden, batch).float(), batch["labels"], real)
        return self.auxiliary.add_to(
            loss,
            hidden,
            batch["ids"].flatten(0, 1),
            self.backbone.output_weight,
            real,
            batch["pooler_position"] >= 0,
        )

    def example_losses(self, logits: Float[Tensor, "batch labels"], labels: Tensor) -> Float[Tensor, "batch"]:
        """The loss of each example, of a class with a weight times its weight."""
        if self.labels is None:
            return (logits[:, 0] - labels) ** 2
        weights = None if self.class_weights is None else self.class_weights.to(logits.device, logits.dtype)
        return functional.cross_entropy(logits, labels, weight=weights, reduction="none")

    def _loss(self, logits: Tensor, labels: Tensor, real: Tensor) -> Loss:
        total = (self.example_losses(logits, labels) * real).sum()  # dummy rows of the batch count nowhere
        if self.class_weights is None:
            return Loss(total, real.sum())
        weights = self.class_weights.to(logits.device)
        return Loss(total, (weights[labels.clamp(min=0)] * real).sum())

    def eval_step(self, batch: AnyBatch) -> EvalOutputs:
        """Ids, logits and references of real examples."""
        real = batch["example_ids"] >= 0
        return batch["example_ids"][real], self(batch)[real].float(), batch["labels"][real]

    def evaluate(self, stage: Stage, split: str, outputs: EvalOutputs) -> ClassificationEvaluation:
        ids, logits, references = outputs
        scores: dict[str, float] = {}
        other_metrics: dict[str, float] = {}
        of_classes = None
        labelled = references != -1
        if labelled.any():
            logits_of, references_of = logits[labelled], references[labelled]
            loss = self._loss(logits_of, references_of, labelled[labelled])
            scores, other_metrics = self._metrics(logits_of, references_of)
            other_metrics = {"loss": float(loss.total / loss.targets), **other_metrics}
            if self._keeps_class_scores():
                of_classes = scoring.class_scores(logits_of, references_of, self.labels or ())
        return ClassificationEvaluation(
            scores=scores,
            other_metrics=other_metrics,
            further_percent_metrics=scoring.percent_names(self.metrics),
            ids=ids,
            logits=logits,
            references=references,
            labels=self.labels,
            class_scores=of_classes,
        )

    def _metrics(self, logits: Tensor, references: Tensor) -> tuple[dict[str, float], dict[str, float]]:
        """The metrics of which more is better, and the others; a metric with a value a label has them as name/label."""
        scores: dict[str, float] = {}
        others: dict[str, float] = {}
        for metric, name in zip(self.metrics, scoring.metric_names(self.metrics), strict=True):
            if isinstance(metric, str):
                scores |= scoring.score([metric], logits, references)
                continue
            (values,) = scoring.torchmetrics_scores([metric], logits, references, self.labels)
            if "" in values:
                (scores if scoring.is_score(metric) else others)[name] = values.pop("")
            elif scoring.is_score(metric):
                scores[name] = sum(values.values()) / len(values)
            others |= {f"{name}_{label}": value for label, value in values.items()}
        return scores, others

    def _keeps_class_scores(self) -> bool:
        if self.labels is None or not self.scores_classes:
            return False
        return len(self.labels) <= scoring.MAX_CLASSES or scoring.CONFUSION_MATRIX in self.metrics
