"""Ids held against the tables of a model's embeddings, before they are looked up."""

from typing import Any

from torch import nn

from protoformer.errors import ConfigurationError


def check_ids(model: nn.Module, texts: str, ids: Any, segment_ids: Any = None) -> None:
    """Raise ConfigurationError for a token or a token type (segment) that has no row in the model's embeddings.

    `ids` and `segment_ids` are arrays or tensors of any shape, `texts` names them in the message. Models whose embeddings have
    another form are not checked.
    """
    embeddings = getattr(model, "embeddings", None)
    for name, table, array in (
        ("token", getattr(embeddings, "token", None), ids),
        ("segment", getattr(embeddings, "segment", None), segment_ids),
    ):
        if not isinstance(table, nn.Embedding) or array is None or not len(array):
            continue
        largest, rows = int(array.max()), table.num_embeddings
        if largest < rows:
            continue
        if name == "segment":
            raise ConfigurationError(
                f"{texts}: pairs of texts are of {largest + 1} segments (token types), and the model has {rows} "
                "(n_segments, type_vocab_size in a config.json): give single texts, or another model"
            )
        raise ConfigurationError(f"{texts}: a token has the id {largest}, and the model has embeddings for {rows}")
