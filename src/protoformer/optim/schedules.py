"""Learning-rate schedules: factors on the peak rate as functions of the optimizer step (from 0)."""

import math
from collections.abc import Callable
from typing import Literal, get_args

Schedule = Literal["linear", "constant", "cosine", "noam"]


def warmup_steps(warmup: float, total: int) -> int:
    """`warmup` below 1 is a share of all steps, else a number of steps."""
    return math.ceil(total * warmup) if warmup < 1 else int(warmup)


def factor(
    schedule: Schedule, warmup: int, total: int, *, decay: float = 1.0, final: float = 0.0, d_model: int = 1
) -> Callable[[int], float]:
    """Linear rise over `warmup` steps, then constant, or a linear or half a cosine's fall to `final`, or as `noam` says.

    The fall ends after a share `decay` of the `total` steps, and what is left of them stays at `final` (GPT-3's ends after
    260 of 300 billion tokens, arXiv 2005.14165, appendix B). `noam` knows no end and no peak: at step s, from 1, it is
    d_model^-0.5 min(s^-0.5, s warmup^-1.5) (arXiv 1706.03762, equation 3), so that the rate that it multiplies is a mere
    factor. Raises ValueError for what is no share.
    """
    if schedule not in get_args(Schedule):
        raise ValueError(f"schedule {schedule!r}: one of {', '.join(get_args(Schedule))}")
    if not 0 < decay <= 1:
        raise ValueError(f"decay {decay}: a share of the run, over 0 and at most 1")
    if not 0 <= final <= 1:
        raise ValueError(f"final_lr {final}: a share of the highest rate, from 0 to 1")
    end = round(decay * total)
    if schedule == "noam":
        return lambda step: d_model**-0.5 * min((step + 1) ** -0.5, (step + 1) * max(1, warmup) ** -1.5)

    def at(step: int) -> float:
        if step < warmup:
            return step / warmup
        if schedule == "constant":
            return 1.0
        done = min(1.0, (step - warmup) / max(1, end - warmup))
        left = 1.0 - done if schedule == "linear" else 0.5 * (1.0 + math.cos(math.pi * done))
        return final + (1.0 - final) * left

    return at
