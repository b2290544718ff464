"""The main score of a task: the mean of its metrics."""

import math
from collections.abc import Mapping


def main_score(metrics: Mapping[str, float]) -> float:
    """The mean of a task's main metrics, by which its best checkpoint is chosen; nan counts as 0.

    Raises ValueError where there is no metric.
    """
    if not metrics:
        raise ValueError("a task without a main metric has no score")
    return sum(0.0 if math.isnan(value) else value for value in metrics.values()) / len(metrics)
