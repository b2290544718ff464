"""`protoformer predict`: the predictions of a trained run, of published weights or of a hub id for texts and for files.

What a model can be asked is up to its task module (`TaskModule.predict_queries`).
"""

from collections.abc import Sequence

from protoformer.inference.load import load
from protoformer.inference.queries.encoder import BATCH_TOKENS, RunEncoder
from protoformer.inference.queries.predict import predict, predict_all
from protoformer.modules.queries import Query, RankedPredictions

__all__ = ["main", "predict"]


def main(source: str, queries: Sequence[Query], batch_tokens: int = BATCH_TOKENS) -> None:
    """Print the predictions for each query, the most probable first.

    Raises a one-line error for a query that the model's kind cannot answer.
    """
    opened = load(source)
    answers = predict_all(opened, queries, RunEncoder(opened, batch_tokens))
    for query, rankings in zip(queries, answers, strict=True):
        if len(queries) > 1:
            print(" | ".join(filter(None, (query.text, query.pair))))
        for ranking in rankings:
            print_ranking(ranking)


def print_ranking(ranking: RankedPredictions) -> None:
    print(ranking.title)
    for prediction in ranking.predictions:
        probability = "" if prediction.probability is None else f"{prediction.probability:7.2%}  "
        print(f"  {probability}{prediction.text}")
