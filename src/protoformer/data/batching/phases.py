"""Phases of a pretraining run: fractions of its steps, each with its own sequence length (arXiv 1810.04805, A.2)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from protoformer.errors import ConfigurationError

MIN_LENGTH = 5  # [CLS] a [SEP] b [SEP]


@dataclass(frozen=True)
class PhasePlan:
    """A phase in whole steps, no longer than the model can read."""

    steps: int
    max_len: int
    max_predictions: int


def plan_phases(phases: Sequence[Mapping[str, Any]], steps: int, max_len: int) -> list[PhasePlan]:
    """Phases of `steps` steps in all. Raises ConfigurationError for shares that do not sum to 1, or a malformed phase."""
    for phase in phases:
        _check(phase)
    shares = [float(phase["share"]) for phase in phases]
    if not shares or abs(sum(shares) - 1) > 1e-6:
        raise ConfigurationError(f"task.data.phases: the shares {shares} must sum to 1")
    ends = [round(fraction * steps) for fraction in accumulate(shares)]
    ends[-1] = steps
    plans = []
    for phase, start, end in zip(phases, [0, *ends[:-1]], ends, strict=True):
        length = min(phase["max_len"], max_len)
        if length < MIN_LENGTH:
            raise ConfigurationError(f"task.data.phases: max_len={length} is too short for two segments")
        max_predictions = phase.get("max_predictions")
        plans.append(PhasePlan(end - start, length, length if max_predictions is None else max_predictions))
    return plans


def _check(phase: Mapping[str, Any]) -> None:
    """Raises ConfigurationError for an unknown or missing key, or a value of another type."""
    if not {"share", "max_len"} <= set(phase) <= {"share", "max_len", "max_predictions"}:
        keys = ", ".join(map(str, phase))
        raise ConfigurationError(f"task.data.phases: a phase has share, max_len, max_predictions, not {keys}")
    share, max_predictions = phase["share"], phase.get("max_predictions")
    if type(share) not in (int, float) or not 0 <= share <= 1:
        raise ConfigurationError(f"task.data.phases: share={share}; expected a number from 0 to 1")
    if type(phase["max_len"]) is not int:
        raise ConfigurationError(f"task.data.phases: max_len={phase['max_len']}; expected a whole number")
    if max_predictions is not None and (type(max_predictions) is not int or max_predictions < 1):
        raise ConfigurationError(
            f"task.data.phases: max_predictions={max_predictions}; expected a whole number from 1 on, or null"
        )
