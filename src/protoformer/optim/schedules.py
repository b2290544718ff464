"""Learning-rate schedules: factors on the peak rate as functions of the optimizer step (from 0)."""

import math
from collections.abc import Callable
from typing import Literal

Schedule = Literal["linear", "constant", "cosine"]


def warmup_steps(warmup: float, total: int) -> int:
    """`warmup` below 1 is a share of all steps, else a number of steps."""
    return math.ceil(total * warmup) if warmup < 1 else int(warmup)


def factor(schedule: Schedule, warmup: int, total: int) -> Callable[[int], float]:
    """Linear rise over `warmup` steps, then constant, a linear fall to 0, or half a cosine to 0 at `total`."""
    if schedule not in ("linear", "constant", "cosine"):
        raise ValueError(f"schedule {schedule!r}: linear, constant or cosine")

    def at(step: int) -> float:
        if step < warmup:
            return step / warmup
        if schedule == "constant":
            return 1.0
        done = min(1.0, (step - warmup) / max(1, total - warmup))
        return 1.0 - done if schedule == "linear" else 0.5 * (1.0 + math.cos(math.pi * done))

    return at
