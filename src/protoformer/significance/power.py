"""How much data a difference takes to be shown, and several comparisons at once."""

from collections.abc import Sequence
from math import ceil, inf
from statistics import NormalDist

from protoformer.significance.intervals import Variance

POWER = 0.8  # the fraction of experiments that show the difference, where it is real


def examples_needed(variance_of_difference: float, examples: int, difference: float, level: float = 0.95) -> int:
    """The number of examples at which a real `difference` is shown with a power of 80 %, at the variance seen on `examples`:
    n (z_{1 - alpha/2} + z_{power})^2 Var / difference^2 (Card et al. 2020, arXiv 2010.06595, section 4)."""
    return max(2, ceil(examples * _quantiles(level) ** 2 * variance_of_difference / difference**2))


def seeds_needed(variance: Variance, runs: tuple[int, int], difference: float, level: float = 0.95) -> float:
    """The number of runs on each side that shows it on the same examples; infinite where the examples alone vary too much
    for any number of runs."""
    per_run = sum(part * count for part, count in zip(variance.seeds, runs, strict=True))
    allowed = (difference / _quantiles(level)) ** 2
    # with many runs, what is left of the examples' part is that without the runs' own noise
    left = allowed - max(0.0, variance.examples - variance.doubled)
    return inf if left <= 0 else max(2, ceil(per_run / left))


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values corrected for their number (Holm 1979): the k-th smallest of n times n - k + 1, never below an earlier one."""
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    corrected, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = largest
    return corrected


def _quantiles(level: float) -> float:
    return NormalDist().inv_cdf((1 + level) / 2) + NormalDist().inv_cdf(POWER)
