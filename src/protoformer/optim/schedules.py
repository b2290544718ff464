"""Learning-rate schedules: factors on the peak rate as functions of the optimizer step, counted from 0, or of the time."""

import math
from collections.abc import Callable
from typing import Literal, get_args

from protoformer.optim.clock import TrainingClock

Schedule = Literal["linear", "constant", "cosine", "noam"]


def warmup_steps(warmup: float, total: int) -> int:
    """Number of warm-up steps: `warmup` below 1 is a fraction of the `total` steps, else the number itself."""
    return math.ceil(total * warmup) if warmup < 1 else int(warmup)


def lr_factor(
    schedule: Schedule, warmup: int, total: int, *, decay: float = 1.0, final_lr: float = 0.0, d_model: int = 1
) -> Callable[[int], float]:
    """The factor on the peak rate at each step: linear warm-up from 0 to 1 over `warmup` steps, then the schedule.

    "constant" stays at 1; "linear" and "cosine" (half a period) fall from 1 to `final_lr`, which they reach after the
    fraction `decay` of the `total` steps and keep from there on (GPT-3's ends after 260 of 300 billion tokens, arXiv
    2005.14165, appendix B).

    "noam" has neither an end nor a peak: at step s, from 1, it is d_model^-0.5 min(s^-0.5, s warmup^-1.5) (arXiv 1706.03762,
    equation 3), and the peak rate that it multiplies is a mere factor.

    Raises ValueError for an unknown schedule, and for a `decay` or `final_lr` that is no fraction.
    """
    if schedule not in get_args(Schedule):
        raise ValueError(f"schedule {schedule!r}: one of {', '.join(get_args(Schedule))}")
    if not 0 < decay <= 1:
        raise ValueError(f"decay {decay}: a fraction of the run, over 0 and at most 1")
    if not 0 <= final_lr <= 1:
        raise ValueError(f"final_lr {final_lr}: a fraction of the peak rate, from 0 to 1")
    if schedule == "noam":
        return lambda step: d_model**-0.5 * min((step + 1) ** -0.5, (step + 1) * max(1, warmup) ** -1.5)
    decay_end = round(decay * total)

    def factor(step: int) -> float:
        if step < warmup:
            return step / warmup
        if schedule == "constant":
            return 1.0
        progress = min(1.0, (step - warmup) / max(1, decay_end - warmup))  # 0 after the warm-up, 1 where the decay ends
        return _decayed(schedule, progress, final_lr)

    return factor


def timed_lr_factor(
    schedule: Schedule,
    warmup: float,
    clock: TrainingClock,
    *,
    total_steps: int | None = None,
    decay: float = 1.0,
    final_lr: float = 0.0,
    d_model: int = 1,
) -> Callable[[int], float]:
    """As `lr_factor`, by the part of the run that is over by `clock` (or by its steps, where `total_steps` ends it sooner).

    A `warmup` below 1 is a part of the run, too; one of a number of steps stays that, and the decay begins where it ends.
    "noam", which has no end, stays a function of the step.
    """
    if schedule == "noam":
        return lr_factor(schedule, warmup_steps(warmup, total_steps or 0), total_steps or 0, d_model=d_model)

    def factor(step: int) -> float:
        progress = clock.progress(step, total_steps)
        rise = progress / warmup if 0 < warmup < 1 else step / warmup if warmup else 1.0
        if rise < 1.0:
            return rise
        if schedule == "constant":
            return 1.0
        begin = warmup
        if warmup >= 1:
            clock.warmed_up_at = begin = progress if clock.warmed_up_at is None else clock.warmed_up_at
        return _decayed(schedule, min(1.0, (progress - begin) / max(1e-9, decay - begin)), final_lr)

    return factor


def _decayed(schedule: Schedule, progress: float, final_lr: float) -> float:
    """The factor of "linear" and "cosine" at a part of their decay."""
    remaining = 1.0 - progress if schedule == "linear" else 0.5 * (1.0 + math.cos(math.pi * progress))
    return final_lr + (1.0 - final_lr) * remaining
