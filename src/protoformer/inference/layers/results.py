"""Scores of probes with intervals over dev examples, beside the baseline and random models."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from protoformer.modules.evaluation import EvalOutputs, Evaluation
from protoformer.reporting.comparison.example_metrics import of_evaluation
from protoformer.significance.intervals import over_examples, resampled_counts
from protoformer.significance.metrics import Metric, value
from protoformer.significance.power import holm

RESAMPLES = 2_000
LEVEL = 0.05


@dataclass(frozen=True)
class ProbeResult:
    """A probe's score of one metric on one split; p-values and verdicts are None where there is no random model, or where the
    metric cannot be computed example by example."""

    probe: str
    strength: float
    score: float
    low: float | None
    high: float | None
    random: tuple[float, ...]  # of the same probe of each random model
    p_random: float | None
    p_baseline: float | None
    verdict_random: str
    verdict_baseline: str


@dataclass(frozen=True)
class MetricResult:
    """One metric on one split, `""` where the task has one alone, and its value for the baseline."""

    split: str
    metric: str
    baseline: float
    probes: list[ProbeResult]


@dataclass(frozen=True)
class Evaluated:
    """The evaluation of one probe, and its metrics as functions of the examples."""

    evaluation: Evaluation
    metrics: dict[str, Metric]

    def score(self, name: str) -> float:
        """The metric; one that is no number counts as 0."""
        if name in self.metrics:
            return value(self.metrics[name])
        score = float(self.evaluation.scores.get(name, 0.0))
        return 0.0 if np.isnan(score) else score


def evaluated(module: Any, split: str, outputs: EvalOutputs) -> Evaluated:
    """The task's evaluation of labelled examples."""
    evaluation = module.evaluate("val", split, outputs)
    return Evaluated(evaluation, of_evaluation(evaluation, list(evaluation.scores)))


def metric_results(
    split: str, names: Sequence[str], strengths: Sequence[float], probes: Sequence[Evaluated],
    random: Sequence[Sequence[Evaluated]], baseline: Evaluated,
) -> list[MetricResult]:  # fmt: skip
    """The results of each metric of the task; `random` are the probes of each random model. p-values are corrected over the
    probes of a metric (Holm)."""
    results = []
    for metric in probes[0].evaluation.scores:
        of_random = [tuple(model[index] for model in random) for index in range(len(probes))]
        against_random = _against(metric, probes, of_random)
        against_baseline = _against(metric, probes, [(baseline,)] * len(probes))
        rows = []
        for index, each in enumerate(probes):
            low, high = _interval(each.metrics.get(metric))
            (p_random, verdict_random), (p_baseline, verdict_baseline) = against_random[index], against_baseline[index]
            rows.append(
                ProbeResult(
                    probe=names[index],
                    strength=strengths[index],
                    score=each.score(metric),
                    low=low,
                    high=high,
                    random=tuple(other.score(metric) for other in of_random[index]),
                    p_random=p_random,
                    p_baseline=p_baseline,
                    verdict_random=verdict_random,
                    verdict_baseline=verdict_baseline,
                )
            )
        results.append(MetricResult(split, metric, baseline.score(metric), rows))
    return results


def _interval(metric: Metric | None) -> tuple[float | None, float | None]:
    """95 % percentile interval of a bootstrap over examples."""
    if metric is None:
        return None, None
    drawn = [metric.values(counts) for counts in resampled_counts(metric.n_examples, None, RESAMPLES, 0)]
    low, high = np.quantile(np.concatenate(drawn), [0.025, 0.975])
    return float(low), float(high)


def _against(
    metric: str, probes: Sequence[Evaluated], others: Sequence[Sequence[Evaluated]]
) -> list[tuple[float | None, str]]:
    """Corrected p-value and verdict of each probe against the mean of its others, by a paired bootstrap over examples."""
    if not all(others) or any(metric not in each.metrics for each in probes):
        return [(None, "-")] * len(probes)
    tests = [
        over_examples([each.metrics[metric]], [other.metrics[metric] for other in of_each], resamples=RESAMPLES)
        for each, of_each in zip(probes, others, strict=True)
    ]
    corrected = holm([test.p for test in tests])
    return [
        (p, "not shown" if p >= LEVEL else "above" if test.difference > 0 else "below")
        for p, test in zip(corrected, tests, strict=True)
    ]
