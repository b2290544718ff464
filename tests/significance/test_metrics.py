"""Resampled metrics equal those of scikit-learn, scipy and sacreBLEU on the repeated examples; influences are derivatives."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from numpy import ndarray
from scipy import stats
from sklearn import metrics as sklearn

from protoformer.scoring.bleu import bleu
from protoformer.scoring.chrf import chrf
from protoformer.significance import class_metrics, metrics, translation_metrics
from protoformer.significance.intervals import resampled_counts
from protoformer.significance.metrics import Metric, value

N, CLASSES = 80, 3
DRAW = np.random.default_rng(0)
PREDICTED = DRAW.integers(CLASSES, size=N)
GOLD = np.where(DRAW.random(N) < 0.6, PREDICTED, DRAW.integers(CLASSES, size=N))
X = DRAW.normal(size=N).round(1)  # with ties
Y = (X + DRAW.normal(size=N)).round(1)
NLL = DRAW.gamma(2.0, size=N) * 10
TOKENS = DRAW.integers(1, 30, size=N)
WORDS = ["the", "a", "cat", "dog", "sat", "ran", "on", "mat", "big", "red", "house", "old", "man"]
HYPOTHESES = [" ".join(DRAW.choice(WORDS, size=DRAW.integers(1, 14))) for _ in range(N)]
REFERENCES = [
    " ".join(w if DRAW.random() < 0.7 else str(DRAW.choice(WORDS)) for w in text.split()) for text in HYPOTHESES
]
Check = Callable[[Sequence[int]], float]


def at(column: Any, rows: Sequence[int]) -> ndarray:
    return np.asarray(column)[list(rows)]


def averaged(function: Any, average: str) -> Check:
    """scikit-learn's mean over classes; those that do not occur have no part in `macro`."""
    return lambda rows: float(function(at(GOLD, rows), at(PREDICTED, rows), average=average, zero_division=0))


FUNCTIONS = {"f1": sklearn.f1_score, "precision": sklearn.precision_score, "recall": sklearn.recall_score}
CASES: dict[str, tuple[Metric, Check]] = {
    "accuracy": (metrics.mean(PREDICTED == GOLD), lambda rows: float(np.mean(at(PREDICTED == GOLD, rows)))),
    "perplexity": (
        metrics.perplexity(-NLL, TOKENS),
        lambda rows: float(np.exp(at(NLL, rows).sum() / at(TOKENS, rows).sum())),
    ),
    "pearson": (metrics.pearson(X, Y), lambda rows: float(stats.pearsonr(at(X, rows), at(Y, rows))[0])),
    "spearman": (metrics.Spearman(X, Y), lambda rows: float(stats.spearmanr(at(X, rows), at(Y, rows))[0])),
    "matthews": (
        class_metrics.matthews(PREDICTED, GOLD, CLASSES),
        lambda rows: float(sklearn.matthews_corrcoef(at(GOLD, rows), at(PREDICTED, rows))),
    ),
    "auroc": (
        class_metrics.Auroc(X, (GOLD == 1).astype(float)),
        lambda rows: float(sklearn.roc_auc_score(at(GOLD == 1, rows), at(X, rows))),
    ),
    **{
        f"{name}-{average}": (
            class_metrics.of_classes(name, average, PREDICTED, GOLD, CLASSES),
            averaged(function, average),
        )
        for name, function in FUNCTIONS.items()
        for average in ("macro", "weighted")
    },
    "f1-binary": (
        class_metrics.of_classes("f1", "binary", (PREDICTED > 0).astype(int), (GOLD > 0).astype(int), 2),
        lambda rows: float(sklearn.f1_score(at(GOLD > 0, rows), at(PREDICTED > 0, rows))),
    ),
    "bleu": (
        translation_metrics.bleu(HYPOTHESES, REFERENCES),
        lambda rows: bleu(list(at(HYPOTHESES, rows)), list(at(REFERENCES, rows))).score / 100,
    ),
    "chrf": (
        translation_metrics.chrf(HYPOTHESES, REFERENCES),
        lambda rows: chrf(list(at(HYPOTHESES, rows)), list(at(REFERENCES, rows))).score / 100,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_resample_has_the_metric_of_the_repeated_examples(name: str) -> None:
    metric, of_rows = CASES[name]
    assert value(metric) == pytest.approx(of_rows(range(N)), abs=1e-12)
    counts = next(resampled_counts(N, None, 4, seed=1))
    rows = [np.repeat(np.arange(N), row.astype(int)).tolist() for row in counts]
    assert metric.values(counts) == pytest.approx([of_rows(each) for each in rows], abs=1e-12)


@pytest.mark.parametrize("name", CASES)
def test_influences_are_derivatives_and_sum_to_nothing(name: str) -> None:
    metric, _ = CASES[name]
    influences = metric.influences()
    assert influences.sum() == pytest.approx(0, abs=1e-8)
    direction = np.random.default_rng(2).normal(size=N)
    step = 1e-4
    values = metric.values(np.stack([1 + step * direction, 1 - step * direction]))
    assert (values[0] - values[1]) / (2 * step) == pytest.approx(influences @ direction / N, rel=1e-3, abs=1e-6)


def test_a_text_metric_without_a_match_is_nothing() -> None:
    assert value(translation_metrics.bleu(["a b c"], ["d e f"])) == 0
    assert value(translation_metrics.chrf(["aaa"], ["bbb"])) == 0
    assert value(translation_metrics.bleu([""], ["d e f"])) == 0
    assert value(translation_metrics.chrf(["", "ab"], ["b", "ab"])) == pytest.approx(
        chrf(["", "ab"], ["b", "ab"]).score / 100
    )


def test_a_side_that_does_not_vary_has_no_correlation() -> None:
    constant = np.ones(N)
    assert value(metrics.pearson(constant, Y)) == value(metrics.Spearman(constant, Y)) == 0
    assert value(class_metrics.matthews([0] * N, GOLD, CLASSES)) == 0
