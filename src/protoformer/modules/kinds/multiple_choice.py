"""Multiple choice (arXiv 1810.04805, section 4.4; Radford et al. 2018, section 3.3): each choice is encoded as a pair with the
context, and scored by the product of its pooled vector with one learned vector; the softmax is over the choices.

Differs: the dropout before that product is drawn for each choice (GPT's code draws one for all choices of an example).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from protoformer.batches import ChoiceBatch
from protoformer.errors import ConfigurationError
from protoformer.models.backbone import Backbone
from protoformer.models.heads import ClassificationHead
from protoformer.modules.evaluation import PredictionRow, Stage, gather_examples
from protoformer.modules.kinds.classification import ClassificationModule
from protoformer.modules.queries import Query, QueryColumns, QueryEncoder, RankedPredictions, ranked, rounded
from protoformer.optim.optimization import Optimization
from protoformer.scoring.classification import MetricName, TorchMetric


class MultipleChoiceModule(ClassificationModule):
    """`choices` are the names of the choices; every example has as many."""

    takes_choices = True
    scores_classes = False

    def __init__(
        self,
        *,
        backbone: Backbone,
        choices: Sequence[str],
        metrics: Sequence[MetricName | TorchMetric],
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

    def pooled_logits(
        self, pooled: Float[Tensor, "batch choices d_model"], batch: Any
    ) -> Float[Tensor, "batch choices"]:
        """A score a choice: the head has one output. A choice that an example lacks has a pooler position of -1; its
        probability is 0."""
        position = batch["pooler_position"]
        # (batch x choices, d_model) -> (batch x choices, 1) -> (batch, choices)
        return self.head(pooled.flatten(0, 1)).view(position.shape).masked_fill(position < 0, -torch.inf)

    @property
    def row_labels(self) -> Sequence[str]:
        """None: the choices of each row are its own."""
        return ()

    def query_columns(self, reader: Any) -> QueryColumns:
        return QueryColumns(reader.contexts, None, reader.choices, reader.options, reader.stem, reader.blank)

    def predict_queries(self, queries: Sequence[Query], encoder: QueryEncoder) -> list[list[RankedPredictions]]:
        if any(len(query.choices) < 2 or query.pair is not None for query in queries):
            raise ConfigurationError(
                "this run's task selects one of several choices: --text A --choice B --choice C ..., without --pair"
            )
        # each choice is a sequence of its own, so queries may have any number of choices
        contexts = [query.text for query in queries for _ in query.choices]
        choices = [choice for query in queries for choice in query.choices]
        outputs = []
        for batch in encoder.encode_batches(contexts, choices):
            sequences = {name: tensor[:, None] for name, tensor in batch.items() if name != "example_ids"}
            outputs.append((batch["example_ids"], self(sequences)[:, 0].float()))
        _, scores = gather_examples(outputs, world_size=1)
        rankings = []
        for query, logits in zip(queries, scores.split([len(query.choices) for query in queries]), strict=True):
            rankings.append([RankedPredictions("choice", ranked(query.choices, logits, query.top))])
        return rankings

    def _logit_names(self) -> Sequence[str]:
        return ["score of the choice"]

    def prediction_row(self, query: Query, rankings: Sequence[RankedPredictions]) -> PredictionRow:
        """The text of the choice, its index from 0, and the probability of each choice in their order."""
        (ranking,) = rankings
        probs = {each.text: rounded(each.probability or 0.0) for each in ranking.predictions}
        best = ranking.predictions[0].text
        return {
            "prediction": best,
            "choice": list(query.choices).index(best),
            "probabilities": [probs.get(choice, 0.0) for choice in query.choices],
        }

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
