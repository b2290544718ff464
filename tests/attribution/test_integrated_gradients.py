"""Integrated gradients: exact where they are known, complete within a tolerance that falls with the number of steps."""

from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from protoformer.attribution.integrated_gradients import integrated_gradients, replaced_embeddings

TEXT = torch.tensor([[1.0, -2.0], [0.5, 3.0], [0.0, 1.0]])
BASELINE = torch.tensor([[0.0, 0.0], [0.5, 1.0], [0.0, 0.0]])


def test_a_linear_logit_is_attributed_by_its_weights() -> None:
    weights = torch.tensor([[1.0, 2.0], [3.0, -4.0], [-1.0, 0.5]])
    result = integrated_gradients(lambda points: (points * weights).sum((1, 2)) + 7, TEXT, BASELINE, steps=1)
    torch.testing.assert_close(result.values, ((TEXT - BASELINE) * weights).sum(-1).double())
    assert (result.logit, result.baseline_logit) == (float((TEXT * weights).sum()) + 7, 7 + 1.5 - 4)
    assert result.completeness_error == pytest.approx(0, abs=1e-6)


def test_a_product_is_shared_as_the_integral_says() -> None:
    """f = x y on the line from 0: the gradient of x is t y, whose mean is y / 2; both get x y / 2."""
    text = torch.tensor([[3.0], [4.0]])
    result = integrated_gradients(lambda points: points[:, 0, 0] * points[:, 1, 0], text, torch.zeros(2, 1), steps=8)
    torch.testing.assert_close(result.values, torch.tensor([6.0, 6.0], dtype=torch.double))
    assert result.difference == 12


def test_the_completeness_error_falls_with_the_square_of_the_steps() -> None:
    def logit(points: Tensor) -> Tensor:
        return torch.tanh(points.sum((1, 2))) + (points**3).sum((1, 2)) / 10

    errors = [
        integrated_gradients(logit, TEXT.double(), BASELINE.double(), steps, points_at_once=5).completeness_error
        for steps in (4, 8, 16, 32)
    ]
    for coarse, fine in pairwise(errors):
        assert fine == pytest.approx(coarse / 4, rel=0.25)
    assert errors[-1] < 1e-2


def test_batches_of_points_change_nothing() -> None:
    def logit(points: Tensor) -> Tensor:
        return (points.sin().sum((1, 2))) ** 2

    whole, parts = (integrated_gradients(logit, TEXT, BASELINE, 10, points_at_once=count) for count in (10, 3))
    torch.testing.assert_close(whole.values, parts.values)


def test_a_text_that_is_its_baseline_has_no_error() -> None:
    result = integrated_gradients(lambda points: points.sum((1, 2)), TEXT, TEXT, steps=4)
    assert (result.values == 0).all()
    assert result.relative_error == 0
    with pytest.raises(ValueError, match="steps=0: at least 1"):
        integrated_gradients(lambda points: points.sum((1, 2)), TEXT, TEXT, steps=0)


def test_embeddings_are_replaced_within_the_context_alone() -> None:
    embedding, ids = nn.Embedding(5, 2), torch.tensor([[0, 1, 4]])
    points = torch.ones(1, 3, 2, requires_grad=True)
    with replaced_embeddings(embedding, points):
        assert torch.equal(embedding(ids), points)
        assert embedding(ids.flatten()).shape == (3, 2)  # as a packed batch
        embedding(ids).sum().backward()
    assert points.grad is not None
    assert torch.equal(embedding(ids), embedding.weight[ids])
