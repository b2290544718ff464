"""Predictor: what a task module says of texts that are not of its data, for `protoformer predict`."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

from protoformer.errors import ConfigurationError
from protoformer.modules.evaluation import PredictionRow
from protoformer.modules.logit_targets import EncodedQuery, LogitTarget
from protoformer.modules.queries import Query, QueryColumns, QueryEncoder, RankedPredictions, rounded


class Predictor:
    """The part of `TaskModule` that answers queries; a kind overrides what differs from a single text with one answer."""

    takes_choices: ClassVar[bool] = False
    """Whether a query names choices (`protoformer predict --choice`)."""

    all_probabilities: ClassVar[bool] = False
    """Whether a row of predicted files holds the probability of every label, and not of the best few."""

    other_command: ClassVar[str] = ""
    """For the message of `protoformer predict`, where another verb answers: "; `protoformer generate` ..."."""

    def restore(self, metrics: Mapping[str, float]) -> None:
        """Take over what a finished run's evaluation decided for its predictions, from its `metrics`; most kinds: nothing."""

    @property
    def restored_values(self) -> Mapping[str, float | None]:
        """What `restore` took over, by name."""
        return {}

    @property
    def row_labels(self) -> Sequence[str]:
        """Labels that every row of a predicted file has a probability of: columns of a CSV."""
        return ()

    def query_columns(self, reader: object) -> QueryColumns:
        """The columns of the data set from which queries are made; `reader` reads its rows (None: there are none)."""
        return QueryColumns(["text"])

    def predict_queries(self, queries: Sequence[Query], encoder: QueryEncoder) -> list[list[RankedPredictions]]:
        """The model's predictions for texts that are not of its data, in order of the queries (`protoformer predict`).

        Raises ConfigurationError for a query without a text that the kind needs, or with one that it does not take.
        """
        return [self.predict_query(query, encoder) for query in queries]

    def predict_query(self, query: Query, encoder: QueryEncoder) -> list[RankedPredictions]:
        """As `predict_queries`, for one query: enough for a kind that needs no batches."""
        raise ConfigurationError(f"this model makes no predictions from a single text{self.other_command}")

    def prediction_row(self, query: Query, rankings: Sequence[RankedPredictions]) -> PredictionRow:
        """An answer as a row of a file: `prediction`, and what is known beside it. Of several things lists."""
        best = [ranking.predictions[0].text for ranking in rankings]
        ranked = [
            {each.text: rounded(each.probability) for each in ranking.predictions if each.probability is not None}
            for ranking in rankings
        ]
        return {
            "prediction": best[0] if len(best) == 1 else best,
            "probabilities": ranked[0] if len(ranked) == 1 else ranked,
        }

    def logit_target(self, query: EncodedQuery) -> LogitTarget:
        """The logit of one text that a gradient attribution explains (`protoformer attention`).

        Raises ConfigurationError for a kind or a text that has none, and for a request that names none of its labels or tokens.
        """
        raise ConfigurationError("this model has no head whose logit could be attributed to tokens")
