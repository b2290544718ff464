"""The metrics against scikit-learn and scipy, on random and on degenerate predictions."""

import inspect
import math
import warnings
from collections.abc import Callable

import numpy as np
import pytest
import torch
from jaxtyping import TypeCheckError
from scipy import stats
from sklearn import metrics as sk
from torch import Tensor

from protoformer.scoring import glue
from protoformer.scoring.main_score import main_score

ORACLES: dict[str, Callable] = {
    "accuracy": sk.accuracy_score,
    "f1": sk.f1_score,
    "matthews_correlation": sk.matthews_corrcoef,
    "pearson": lambda y, x: stats.pearsonr(x, y).statistic,
    "spearman": lambda y, x: stats.spearmanr(x, y).statistic,
}


def logits_of(classes: list[int], n_labels: int) -> Tensor:
    return torch.nn.functional.one_hot(torch.tensor(classes), n_labels).float() * 3 - 1


def expected(metric: str, references: np.ndarray, predictions: np.ndarray) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the oracles warn of degenerate input; ours must not
        return float(ORACLES[metric](references, predictions))


@pytest.fixture(autouse=True)
def _no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        import torchmetrics.functional.classification
        import torchmetrics.functional.regression  # noqa: F401

        yield


@pytest.mark.parametrize("n_labels", [2, 3, 5])
@pytest.mark.parametrize("n", [7, 100, 3001])
def test_classification_metrics_equal_scikit_learn_on_random_predictions(n: int, n_labels: int) -> None:
    generator = torch.Generator().manual_seed(n * n_labels)
    logits = torch.randn(n, n_labels, generator=generator)
    references = torch.randint(0, n_labels, (n,), generator=generator)
    logits[torch.arange(n), references] += 0.7  # better than chance
    names = ["accuracy", "matthews_correlation"] + (["f1"] if n_labels == 2 else [])
    ours = glue.score(names, logits, references)
    assert list(ours) == names
    for name in names:
        oracle = expected(name, references.numpy(), logits.argmax(1).numpy())
        assert ours[name] == pytest.approx(oracle, abs=1e-5), name


@pytest.mark.parametrize(
    ("predictions", "references"),
    [
        ([0, 0, 0, 0], [0, 1, 1, 0]),
        ([1, 1, 1, 1], [0, 1, 1, 0]),
        ([0, 0, 0], [0, 0, 0]),
        ([1, 1, 1], [1, 1, 1]),
        ([0, 0, 0], [1, 1, 1]),
        ([1, 1, 1], [0, 0, 0]),
        ([0, 1, 0], [1, 1, 1]),
        ([0, 1, 0], [0, 0, 0]),
        ([0, 1, 0, 1], [1, 0, 1, 0]),
        ([0, 1, 0, 1], [0, 1, 0, 1]),
        ([0, 1, 0, 1], [0, 0, 1, 1]),
        ([0], [0]),
        ([1], [1]),
        ([1], [0]),
    ],
)
def test_degenerate_classes_score_as_scikit_learn_defines_them(predictions: list[int], references: list[int]) -> None:
    names = ["accuracy", "f1", "matthews_correlation"]
    ours = glue.score(names, logits_of(predictions, 2), torch.tensor(references))
    for name in names:
        assert ours[name] == pytest.approx(expected(name, np.array(references), np.array(predictions)), abs=1e-6), name


def test_matthews_of_one_class_predicted_among_three_is_zero() -> None:
    ours = glue.score(["matthews_correlation"], logits_of([2, 2, 2, 2], 3), torch.tensor([0, 1, 2, 0]))
    assert ours == {"matthews_correlation": 0.0}


@pytest.mark.parametrize("n", [2, 3, 10, 1500])
@pytest.mark.parametrize("step", [None, 0.5])
def test_correlations_equal_scipy_with_and_without_ties(n: int, step: float | None) -> None:
    generator = torch.Generator().manual_seed(n)
    references = torch.rand(n, generator=generator) * 5
    predictions = references + torch.randn(n, generator=generator)
    if step is not None:
        references = torch.linspace(0, 5, n).div(step).floor() * step  # never all equal, for n > 1
        predictions = (predictions / step).round() * step
        predictions[0] += step * 20
    ours = glue.score(["pearson", "spearman"], predictions[:, None], references)
    for name in ("pearson", "spearman"):
        oracle = expected(name, references.double().numpy(), predictions.double().numpy())
        assert ours[name] == pytest.approx(oracle, abs=1e-9), name
        assert math.isfinite(ours[name])


def test_spearman_shares_the_rank_among_ties() -> None:
    predictions, references = [1.0, 2, 2, 3, 3, 3], [2.0, 1, 1, 4, 4, 0]
    ours = glue.score(["spearman"], torch.tensor(predictions)[:, None], torch.tensor(references))
    assert ours["spearman"] == pytest.approx(stats.spearmanr(predictions, references).statistic, abs=1e-12)
    untied = stats.pearsonr(np.argsort(np.argsort(predictions)), np.argsort(np.argsort(references))).statistic
    assert abs(ours["spearman"] - untied) > 0.01  # ranks by position would be seen


@pytest.mark.parametrize(
    ("predictions", "references"),
    [
        ([0.1, 0.1, 0.1], [1.0, 2.0, 3.0]),
        ([1.0, 2.0, 3.0], [0.3, 0.3, 0.3]),
        ([2.0], [3.0]),
        ([1.0, math.nan, 2.0], [1.0, 2.0, 3.0]),
        ([1.0, math.inf, 2.0], [1.0, 2.0, 3.0]),
    ],
)
def test_undefined_correlations_are_nan(predictions: list[float], references: list[float]) -> None:
    ours = glue.score(["pearson", "spearman"], torch.tensor(predictions)[:, None], torch.tensor(references))
    assert all(math.isnan(value) for value in ours.values())


def test_nearly_constant_predictions_are_told_from_constant_ones() -> None:
    predictions = torch.tensor([2.5, 2.5000005, 2.500001, 2.5000012])
    ours = glue.score(["pearson", "spearman"], predictions[:, None], torch.tensor([1.0, 2.0, 3.0, 4.0]))
    oracle = stats.pearsonr(predictions.double().numpy(), [1, 2, 3, 4]).statistic
    assert ours["pearson"] == pytest.approx(oracle, abs=1e-9)
    assert ours["spearman"] == pytest.approx(1.0, abs=1e-12)


def test_half_precision_logits_are_scored() -> None:
    logits = logits_of([0, 1, 1], 2)
    references = torch.tensor([0, 1, 0])
    for dtype in (torch.bfloat16, torch.float16):
        assert glue.score(["accuracy"], logits.to(dtype), references) == {"accuracy": pytest.approx(2 / 3)}
    assert glue.score(["pearson"], torch.tensor([[1.0], [2.0]]).bfloat16(), references[:2])["pearson"] == 1.0


def test_an_unknown_metric_is_named_beside_those_that_exist() -> None:
    with pytest.raises(ValueError, match=r"'bleu'.*accuracy, f1, matthews_correlation, pearson, spearman"):
        inspect.unwrap(glue.score)(
            ["accuracy", "bleu"], logits_of([0], 2), torch.tensor([0])
        )  # without the type checker


@pytest.mark.parametrize(
    ("metric", "logits", "references", "message"),
    [
        ("accuracy", torch.zeros(2, 2), torch.tensor([0, -1]), "labels -1 to 0"),
        ("accuracy", torch.zeros(2, 2), torch.tensor([0, 2]), "labels 0 to 2"),
        ("accuracy", torch.zeros(0, 2), torch.zeros(0, dtype=torch.long), "no examples"),
        ("f1", torch.zeros(2, 3), torch.tensor([0, 1]), "3 labels"),
        ("pearson", torch.zeros(2, 3), torch.tensor([0.0, 1.0]), "3 logits"),
    ],
)
def test_input_that_cannot_be_scored_is_refused(metric: str, logits: Tensor, references: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        glue.score([metric], logits, references)


def test_shapes_that_differ_are_refused() -> None:
    """By jaxtyping before our own check where shapes are checked."""
    with pytest.raises((ValueError, TypeCheckError), match=r"do not match|Type-check error"):
        glue.score(["accuracy"], torch.zeros(2, 2), torch.tensor([0]))


def test_main_score_is_the_mean_and_counts_nan_as_nothing() -> None:
    assert main_score({"accuracy": 0.8, "f1": 0.9}) == pytest.approx(0.85)
    assert main_score({"pearson": math.nan, "spearman": 0.5}) == 0.25
    assert main_score({"matthews_correlation": -0.1}) == -0.1
    with pytest.raises(ValueError, match="without a main metric"):
        main_score({})
