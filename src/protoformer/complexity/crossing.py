"""What follows from numbers over n and d: exponents, and where two kinds cost the same."""

import math
from collections.abc import Sequence


def exponent(sizes: Sequence[int], costs: Sequence[float]) -> float:
    """p of cost = a size^p, by least squares of the logarithms over the larger half of the sizes, two of them at least."""
    first = min(len(sizes) // 2, len(sizes) - 2)
    x, y = ([math.log(value) for value in values[first:]] for values in (sizes, costs))
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    slope = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True))
    return slope / sum((a - mean_x) ** 2 for a in x)


def crossing(sizes: Sequence[int], costs: Sequence[float], others: Sequence[float]) -> float | None:
    """The largest size from which on `costs` are over `others`, between two sizes by their logarithms; None where they are not
    even at the last one, and the first size where they are at all of them."""
    gap = [math.log(a / b) for a, b in zip(costs, others, strict=True)]
    if gap[-1] < 0:
        return None
    for place in range(len(sizes) - 1, 0, -1):
        before, after = gap[place - 1], gap[place]
        if before < 0:
            share = -before / (after - before)
            return sizes[place - 1] * (sizes[place] / sizes[place - 1]) ** share
    return float(sizes[0])
