"""Predictions of an opened model for texts: one query at a time, or many in batches."""

from collections.abc import Sequence
from functools import partial

import torch

from protoformer.distributed.memory import batch_advice, memory_advice
from protoformer.errors import ConfigurationError
from protoformer.inference.opening.opened import OpenedModel
from protoformer.inference.queries.encoder import RunEncoder
from protoformer.modules.queries import Query, RankedPredictions

EVERY_LABEL = 1 << 30


def predict(opened: OpenedModel, query: Query) -> list[RankedPredictions]:
    """The predictions for one query. Raises ConfigurationError for one that the model's kind cannot answer."""
    (rankings,) = predict_all(opened, [query])
    return rankings


def predict_all(
    opened: OpenedModel, queries: Sequence[Query], encoder: RunEncoder | None = None
) -> list[list[RankedPredictions]]:
    """The predictions for each query, in order.

    Raises ConfigurationError as `predict`, DeviceMemoryError where memory does not hold a batch.
    """
    for query in queries:
        _check(opened, query)
    _check_kind(opened)
    encoder = encoder or RunEncoder(opened)
    advice = partial(batch_advice, encoder.batch_tokens, "tokens", "--batch-tokens ", smallest=opened.max_len)
    with torch.inference_mode(), memory_advice(advice):
        return opened.model.predict_queries(queries, encoder)


def prediction_rows(
    opened: OpenedModel, queries: Sequence[Query], encoder: RunEncoder | None = None
) -> list[dict[str, object]]:
    """The prediction for each query as a row of a file: `prediction`, and its probabilities (see `TaskModule`)."""
    if opened.model.all_probabilities:
        queries = [Query(query.text, query.pair, query.choices, EVERY_LABEL) for query in queries]
    rankings = predict_all(opened, queries, encoder)
    return [opened.model.prediction_row(query, each) for query, each in zip(queries, rankings, strict=True)]


def _check(opened: OpenedModel, query: Query) -> None:
    if query.top < 1:
        raise ConfigurationError(f"--top {query.top}: at least 1")
    if query.choices and not opened.model.takes_choices:
        raise ConfigurationError(f"--choice: a run of kind {opened.config['task']['kind']} takes no choices")
    for option, texts in (("--text", [query.text]), ("--pair", [query.pair]), ("--choice", query.choices)):
        for text in texts:
            if text is not None and not text.strip():
                raise ConfigurationError(f"{option} is empty; write the text after it, in quotes")
            if text is not None and not is_unicode(text):
                raise ConfigurationError(f"{option} {ascii(text)[:80]}: not valid Unicode; give it in UTF-8")


def _check_kind(opened: OpenedModel) -> None:
    if not hasattr(opened.model, "head") and not opened.of_run and not opened.model.other_command:
        raise ConfigurationError(
            f"{opened.name} has no head that predicts anything; train one: "
            f"protoformer train task=... init_from={opened.config.get('init_from', opened.name)}"
        )


def is_unicode(text: str) -> bool:
    """Whether a text can be written: the bytes of a command line may be none."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
