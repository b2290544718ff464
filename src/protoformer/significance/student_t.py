"""Student's t distribution, without SciPy: the tail by the incomplete beta function (DLMF 8.17.22), quantiles by bisection."""

import functools
from math import exp, inf, lgamma, log, log1p
from statistics import NormalDist

LARGE = 1e6  # degrees of freedom from which it is the normal distribution to seven digits
TINY = 1e-300  # in place of a denominator of 0 (Lentz's algorithm)


def tail(t: float, freedom: float) -> float:
    """P(T > t) for t >= 0."""
    if freedom >= LARGE:
        return NormalDist().cdf(-t)
    if t == inf:
        return 0.0
    return _incomplete_beta(freedom / (freedom + t * t), freedom / 2, 0.5) / 2


@functools.cache
def quantile(probability: float, freedom: float) -> float:
    """The value below which T falls with a probability of 0.5 or more."""
    if freedom >= LARGE:
        return NormalDist().inv_cdf(probability)
    low, high = 0.0, 1.0
    while tail(high, freedom) > 1 - probability:
        low, high = high, 2 * high
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if tail(middle, freedom) > 1 - probability else (low, middle)
    return (low + high) / 2


def _incomplete_beta(x: float, a: float, b: float) -> float:
    """The regularised incomplete beta function I_x(a, b)."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):  # the fraction converges fast on one side alone
        return 1 - _incomplete_beta(1 - x, b, a)
    front = exp(a * log(x) + b * log1p(-x) + lgamma(a + b) - lgamma(a) - lgamma(b)) / a
    fraction, c, d = 1.0, 1.0, 0.0
    for step in range(400):
        m = step // 2
        if step == 0:
            numerator = 1.0
        elif step % 2 == 0:
            numerator = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        else:
            numerator = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        d = 1 / ((1 + numerator * d) or TINY)
        c = (1 + numerator / c) or TINY
        fraction *= c * d
        if step and abs(1 - c * d) < 1e-14:
            break
    return front * (fraction - 1)
