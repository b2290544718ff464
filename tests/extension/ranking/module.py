"""Task module of the ranking kind: one score for each candidate, trained by a softmax over the candidates of a query.

The listwise loss is ListNet's with one relevant candidate (Cao et al. 2007, section 4); the score comes from the pooled vector
of query and candidate read together, as in arXiv 1901.04085.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from protoformer.errors import ConfigurationError
from protoformer.models.backbone import Backbone
from protoformer.models.heads import ClassificationHead
from protoformer.models.hf.layout import HeadLayout
from protoformer.modules.evaluation import EvalOutputs, Evaluation, Stage
from protoformer.modules.objective.loss import Loss
from protoformer.modules.queries import Query, QueryEncoder, RankedPredictions, ranked
from protoformer.modules.task_module import TaskModule
from protoformer.optim.optimization import Optimization

from .data import RankingBatch, RankingExample


@dataclass(frozen=True, kw_only=True)
class RankingEvaluation(Evaluation):
    """All of a split, in order of row: the best candidate, and the rank of the relevant one (0: hidden)."""

    percent_metrics = frozenset({"mrr", "accuracy_at_1"})

    examples: Sequence[RankingExample]
    best: Int[Tensor, "examples"]
    rank: Int[Tensor, "examples"]

    def rows(self) -> Iterator[dict[str, Any]]:
        for example, best, rank in zip(self.examples, self.best.tolist(), self.rank.tolist(), strict=True):
            yield {
                "id": example.row,
                "prediction": example.candidates[best],
                "label": example.candidates[example.relevant] if rank else None,
                "rank": rank or None,
            }

    def example_scores(self) -> Mapping[str, Sequence[float]]:
        if not self.rank.all():
            return {}
        return {"mrr": (1 / self.rank).tolist(), "accuracy_at_1": (self.rank == 1).float().tolist()}


class RankingModule(TaskModule):
    """`temperature` divides the scores before the softmax of the loss."""

    takes_choices = True  # for the flag `--choice` of predict
    metrics: ClassVar[tuple[str, ...]] = ("mrr", "accuracy_at_1")
    hf_head = HeadLayout("ForMultipleChoice", {"linear": "classifier"}, ambiguous=True)

    def __init__(
        self,
        *,
        backbone: Backbone,
        splits: Mapping[Stage, Sequence[str]],
        temperature: float = 1.0,
        optimization: Optimization | None = None,
    ) -> None:
        super().__init__(optimization)
        self.backbone, self.splits, self.temperature = backbone, splits, temperature
        self.head = ClassificationHead(backbone.d_model, 1, backbone.dropout)

    def forward(self, batch: RankingBatch) -> Float[Tensor, "batch candidates"]:
        """Scores; -inf where there is no candidate."""
        hidden = self.backbone(*(batch[name].flatten(0, 1) for name in ("ids", "padding_mask", "segment_ids")))
        pooled = self.backbone.pooler(hidden, batch["pooler_position"].flatten())
        scores = self.head(pooled).view(batch["candidate_mask"].shape)
        return scores.masked_fill(~batch["candidate_mask"], -torch.inf)

    def loss(self, batch: RankingBatch) -> Loss:
        real = batch["example_ids"] >= 0
        logits = self(batch).float() / self.temperature
        losses = functional.cross_entropy(logits, batch["relevant"], reduction="none")
        return Loss((losses * real).sum(), real.sum())

    def eval_step(self, batch: RankingBatch) -> EvalOutputs:
        real = batch["example_ids"] >= 0
        scores, relevant = self(batch)[real], batch["relevant"][real]
        order = scores.argsort(descending=True, stable=True)  # (examples, candidates)
        rank = (order == relevant[:, None]).long().argmax(-1) + 1
        return batch["example_ids"][real], order[:, 0], torch.where(relevant < 0, 0, rank)

    def evaluate(self, stage: Stage, split: str, outputs: EvalOutputs) -> RankingEvaluation:
        ids, best, rank = outputs
        examples: Mapping[int, RankingExample] = self.references[stage][split]
        ranks = rank[rank > 0]
        scores = {"mrr": float((1 / ranks).mean()), "accuracy_at_1": float((ranks == 1).float().mean())}
        return RankingEvaluation(
            scores=scores if len(ranks) else {},
            other_metrics={},
            examples=[examples[row] for row in ids.tolist()],
            best=best,
            rank=rank,
        )

    def predict_query(self, query: Query, encoder: QueryEncoder) -> list[RankedPredictions]:
        if len(query.choices) < 2 or query.pair is not None:
            raise ConfigurationError(
                "this run ranks candidates: --text QUERY --choice A --choice B ..., without --pair"
            )
        batch = encoder.encode_texts([query.text] * len(query.choices), query.choices)
        one_example = {name: tensor[None] for name, tensor in batch.items() if name != "example_ids"}
        candidate_mask = torch.ones(1, len(query.choices), dtype=torch.bool)
        (scores,) = self({**one_example, "candidate_mask": candidate_mask})
        return [RankedPredictions("candidate", ranked(query.choices, scores, query.top))]

    def dummy_batch(self, batch: int, seq: int) -> RankingBatch:
        """Four candidates an example."""
        zeros = torch.zeros(batch, 4, seq, dtype=torch.long)
        return RankingBatch(
            ids=zeros,
            padding_mask=zeros == 0,
            segment_ids=zeros,
            pooler_position=zeros[:, :, 0],
            candidate_mask=zeros[:, :, 0] == 0,
            example_ids=zeros[:, 0, 0],
            relevant=zeros[:, 0, 0],
        )
