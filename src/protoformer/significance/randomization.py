"""Approximate randomisation (Noreen 1989; for language tasks Yeh 2000): is the difference larger than chance relabelling gives?

If there is no difference, it does not matter which system gave which output. Over examples, run k of ours and run k of theirs
exchange their outputs of an example (or of a whole cluster) with probability one half. Over seeds, whole runs are dealt anew
to the two sides. p is (1 + resamples at least as extreme) / (1 + resamples).
"""

from collections.abc import Sequence
from itertools import combinations
from math import comb

import numpy as np

from protoformer.significance.intervals import CHUNK, Clusters
from protoformer.significance.metrics import Metric, value

TOLERANCE = 1e-12  # equal differences count as extreme


def over_examples(
    ours: Sequence[Metric],
    theirs: Sequence[Metric],
    clusters: Clusters | None = None,
    *,
    resamples: int = 2_000,
    seed: int = 0,
) -> float:
    """p of the difference of means over runs. Raises ValueError where the sides have different numbers of runs, which have no
    partners then."""
    if len(ours) != len(theirs):
        raise ValueError(f"{len(ours)} runs against {len(theirs)}: outputs are exchanged between pairs of runs")
    n = ours[0].n_examples
    _, unit = (None, np.arange(n)) if clusters is None else np.unique(clusters, return_inverse=True)
    generator = np.random.default_rng(seed)
    both = [a.beside(b) for a, b in zip(ours, theirs, strict=True)]
    observed = sum(value(a) - value(b) for a, b in zip(ours, theirs, strict=True))
    extreme, step = 0, max(1, CHUNK // (2 * n))
    for done in range(0, resamples, step):
        size = (min(step, resamples - done), int(unit.max()) + 1)
        swapped = (generator.random(size)[:, unit] < 0.5).astype(float)  # (resamples, examples)
        first, second = (np.concatenate(sides, axis=1) for sides in ((1 - swapped, swapped), (swapped, 1 - swapped)))
        drawn = sum(metric.values(first) - metric.values(second) for metric in both)
        extreme += int((np.abs(drawn) >= abs(observed) - TOLERANCE * max(1.0, abs(observed))).sum())
    return (1 + extreme) / (1 + resamples)


def over_seeds(ours: Sequence[Metric], theirs: Sequence[Metric], *, resamples: int = 10_000, seed: int = 0) -> float:
    """p of dealing the runs anew; all ways to do so where they are no more than `resamples`, and p is exact then."""
    scores = np.asarray([value(run) for run in (*ours, *theirs)])
    observed = abs(scores[: len(ours)].mean() - scores[len(ours) :].mean())
    if comb(len(scores), len(ours)) <= resamples:
        chosen = np.zeros((comb(len(scores), len(ours)), len(scores)), dtype=bool)
        for row, indices in enumerate(combinations(range(len(scores)), len(ours))):
            chosen[row, list(indices)] = True
        extra = 0  # the dealing that was seen is one of them
    else:
        order = np.random.default_rng(seed).permuted(np.tile(np.arange(len(scores)), (resamples, 1)), axis=1)
        chosen, extra = order < len(ours), 1
    means = (chosen * scores).sum(axis=1) / len(ours) - (~chosen * scores).sum(axis=1) / len(theirs)
    extreme = np.abs(means) >= observed - TOLERANCE * max(1.0, observed)
    return float((extra + extreme.sum()) / (extra + len(means)))
