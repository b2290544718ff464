"""Optimizer steps of a run, counted from its limits, its batches and its accumulation."""

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

from protoformer.errors import ConfigurationError

log = logging.getLogger(__name__)


LIMITS = (
    "max_epochs",
    "max_steps",
    "limit_train_batches",
    "limit_val_batches",
    "limit_test_batches",
    "val_check_interval",
    "check_val_every_n_epoch",
)
ROUNDING = 1e-9  # of a fraction of batches: 49 * (1 / 49) is less than 1


def limits_in_micro_batches(limits: Mapping[str, Any], micro_batches: int, accumulation: int) -> dict[str, Any]:
    """The Trainer's limits with global batches (or fractions of an epoch) converted to one rank's micro-batches.

    So a limit, and when validation runs, is the same under any `hardware.micro_batch`. `micro_batches` are an epoch's. Where
    `limit_train_batches` cuts the epoch, `val_check_interval` is a fraction of what is left, and at most all of it.
    """
    converted = dict(limits)
    whole = batches = micro_batches // accumulation  # of an epoch
    if (limit := limits["limit_train_batches"]) is not None:
        batches = min(whole, max(1, int(whole * limit)) if isinstance(limit, float) else limit)
        converted["limit_train_batches"] = batches * accumulation
    if (interval := limits["val_check_interval"]) is not None and micro_batches:
        if isinstance(interval, float):
            interval = max(1, int(batches * interval))
        elif interval > whole:
            raise ConfigurationError(
                f"trainer.val_check_interval={interval} is more than the {whole} batches of an epoch; leave it out to "
                "validate after each epoch"
            )
        converted["val_check_interval"] = min(interval, batches) * accumulation
    if converted["max_epochs"] is None and converted["max_steps"] < 0:
        converted["max_epochs"] = -1  # time alone ends the run; Lightning's own default is 1,000 epochs
    return converted


def evaluation_limits(limits: Mapping[str, Any], batches: Mapping[str, Sequence[int]]) -> dict[str, Any]:
    """The limits of dev and test splits; a fraction is at least one batch of each, of which `batches` has the numbers.

    Lightning ends a run whose fraction is less than a batch.
    """
    raised: dict[str, Any] = {}
    for name, numbers in batches.items():
        limit, fewest = limits[name], min((number for number in numbers if number), default=1)
        is_fraction = isinstance(limit, float) and limit < 1.0
        raised[name] = min(1.0, 1 / fewest + ROUNDING) if is_fraction and int(fewest * limit) < 1 else limit
    return raised


def total_steps(limits: Mapping[str, Any], micro_batches: int, accumulation: int) -> int | None:
    """Optimizer steps of a whole run, from an epoch's micro-batches on one rank; None where neither steps nor epochs end it.

    `limits` as from `limits_in_micro_batches`.
    """
    if limits["limit_train_batches"] is not None:
        micro_batches = limits["limit_train_batches"]
    epochs, steps = limits["max_epochs"], limits["max_steps"]
    if epochs is None or epochs < 0:
        return int(steps) if steps >= 0 else None
    steps_of_epochs = math.ceil(micro_batches / accumulation) * epochs
    return steps_of_epochs if steps < 0 else min(steps_of_epochs, steps)
