"""Growth of costs with size: the fitted exponent, and the size from which one cost exceeds another."""

import math
from collections.abc import Sequence


def fit_exponent(sizes: Sequence[int], costs: Sequence[float]) -> float:
    """p of cost = a size^p: a least-squares line through the logarithms, over the larger half of the sizes (at least two)."""
    first = min(len(sizes) // 2, len(sizes) - 2)
    x, y = ([math.log(value) for value in values[first:]] for values in (sizes, costs))
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    covariance = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True))
    return covariance / sum((a - mean_x) ** 2 for a in x)


def crossover(sizes: Sequence[int], costs: Sequence[float], other_costs: Sequence[float]) -> float | None:
    """The size from which on `costs` exceed `other_costs`, interpolated on log-log axes.

    None where they do not even at the last size; the first size where they do at all sizes. Of several crossings the last.
    """
    log_ratios = [math.log(a / b) for a, b in zip(costs, other_costs, strict=True)]
    if log_ratios[-1] < 0:
        return None
    for index in range(len(sizes) - 1, 0, -1):
        before, after = log_ratios[index - 1], log_ratios[index]
        if before < 0:
            fraction = -before / (after - before)
            return sizes[index - 1] * (sizes[index] / sizes[index - 1]) ** fraction
    return float(sizes[0])
