"""How much data a difference takes to be shown, and several comparisons at once.

The number of runs or examples at which the t test, two-sided, shows a real difference with a power of 80 % is the smallest one
at which the difference is t_{1 - alpha/2} + t_{power} standard errors (Card et al. 2020, arXiv 2010.06595, section 4, with t in
place of normal quantiles, which matters where runs are few).
"""

from collections.abc import Callable, Sequence
from math import ceil, inf
from statistics import NormalDist

from protoformer.significance import student_t
from protoformer.significance.intervals import Variance, satterthwaite

POWER = 0.8  # the fraction of experiments that show the difference, where it is real
LARGE = 1_000  # degrees of freedom from which quantiles of t are close enough to the normal ones


def examples_needed(
    variance_of_difference: float, examples: int, difference: float, level: float = 0.95, *, units: int | None = None
) -> int:
    """The number of examples, at the variance seen on `examples` of them, of `units` clusters (None: as many)."""
    per_unit = (units or examples) / examples

    def enough(number: int) -> bool:
        freedom = max(1.0, number * per_unit - 1)
        return variance_of_difference * examples / number <= (difference / _quantiles(level, freedom)) ** 2

    return _smallest(enough, examples * variance_of_difference / (difference / _quantiles(level)) ** 2)


def seeds_needed(
    variance: Variance, runs: tuple[int, int], difference: float, level: float = 0.95, *, same_examples: bool = False
) -> float:
    """The number of runs on each side: to show it on these very examples (`same_examples`), or on others of the same number,
    where it is infinite if examples alone vary too much for any number of runs."""
    per_run = [part * count for part, count in zip(variance.seeds, runs, strict=True)]
    # with many runs, what is left of the examples' part is that without the runs' own noise
    examples = 0.0 if same_examples else max(0.0, variance.examples - variance.doubled)
    left = (difference / _quantiles(level, variance.freedom[0] if examples else inf)) ** 2 - examples
    if left <= 0:
        return inf

    def enough(number: int) -> bool:
        parts = [examples, *(part / number for part in per_run)]
        freedom = satterthwaite(parts, [variance.freedom[0], number - 1, number - 1], sum(parts))
        return sum(parts) <= (difference / _quantiles(level, freedom)) ** 2

    return _smallest(enough, sum(per_run) / left)


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values corrected for their number (Holm 1979): the k-th smallest of n times n - k + 1, never below an earlier one."""
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    corrected, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = largest
    return corrected


def _smallest(enough: Callable[[int], bool], by_normal: float) -> int:
    """The smallest number that is enough, from that which normal quantiles give; at least 2."""
    number = max(2, ceil(by_normal))
    while not enough(number):
        number += max(1, number // 1_000)
    return number


def _quantiles(level: float, freedom: float = inf) -> float:
    if freedom >= LARGE:
        return NormalDist().inv_cdf((1 + level) / 2) + NormalDist().inv_cdf(POWER)
    return student_t.quantile((1 + level) / 2, freedom) + student_t.quantile(POWER, freedom)
