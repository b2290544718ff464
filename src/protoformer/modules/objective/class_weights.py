"""Weights of the classes in a loss: typed ones, and those that make classes count alike."""

import logging
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from protoformer.errors import ConfigurationError

log = logging.getLogger(__name__)
SHOWN = 8  # labels in a message


def checked_weights(
    class_weights: Sequence[float] | str | None, labels: Sequence[str] | None, aux_lm_weight: float
) -> Tensor | None:
    """The weights as a tensor; None for none, and for those that the training rows will give."""
    if class_weights is None:
        return None
    key = "task.module.class_weights"
    if labels is None:
        raise ConfigurationError(f"{key} needs labels; this task is a regression")
    if aux_lm_weight:
        raise ConfigurationError(
            f"{key} and recipe.aux_lm_weight cannot be combined: their means are over different counts"
        )
    if isinstance(class_weights, str):
        return None
    if len(class_weights) != len(labels):
        raise ConfigurationError(
            f"{key}: {len(class_weights)} weights for {len(labels)} labels ({', '.join(labels[:8])})"
        )
    weights = torch.tensor([float(weight) for weight in class_weights])
    if not (weights.isfinite().all() and (weights > 0).all()):
        raise ConfigurationError(f"{key}={list(class_weights)}: every weight is a number above 0")
    return weights


def balanced_weights(references: Int[Tensor, "rows"], labels: Sequence[str]) -> Float[Tensor, "labels"]:
    """Of each label the number of rows over the number of labels times the label's own rows.

    Raises ConfigurationError for a label without a row.
    """
    counts = _counts(references, labels)
    if missing := [label for label, count in zip(labels, counts, strict=True) if not count]:
        raise ConfigurationError(
            f"task.module.class_weights=balanced: no training row has the label {missing[0]}; give a weight a label"
        )
    return (counts.sum() / (len(counts) * counts)).to(torch.float32)


def warn_of_missing(references: Int[Tensor, "rows"], labels: Sequence[str]) -> None:
    """One line where training rows lack a label."""
    missing = [label for label, count in zip(labels, _counts(references, labels), strict=True) if not count]
    if missing:
        log.warning(
            "no training row has the label %s%s: the first rows of a file that is sorted by label?",
            ", ".join(missing[:SHOWN]),
            f" (nor {len(missing) - SHOWN} others)" if len(missing) > SHOWN else "",
        )


def _counts(references: Int[Tensor, "rows"], labels: Sequence[str]) -> Float[Tensor, "labels"]:
    return torch.tensor(references).long().bincount(minlength=len(labels)).double()
