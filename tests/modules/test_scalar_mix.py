"""The scalar mix of layers: against equation 1 of Peters et al. 2018, and on layers of which one holds the answer."""

import math

import pytest
import torch
from torch import Tensor

from protoformer.modules.kinds.classification import ClassificationModule
from protoformer.modules.scalar_mix import ScalarMixProbe

from .test_linear_probe import Features, build


def module() -> ClassificationModule:
    return build(["a", "b"])


def examples(count: int = 60) -> tuple[Tensor, ...]:
    """Three layers of noise; in the second one the first feature tells the label."""
    labels = torch.arange(count) % 2
    features = torch.randn(count, 1, 3, Features.d_model, dtype=torch.double)
    features[:, 0, 1, 0] = 2.0 * labels - 1 + 0.3 * features[:, 0, 1, 0]
    return torch.arange(count), features, torch.zeros(count, 1, dtype=torch.long), labels


def test_the_mix_is_gamma_times_the_sum_of_weighted_layers() -> None:
    probe = ScalarMixProbe(module(), 2)
    with torch.no_grad():
        probe.scalars.copy_(torch.tensor([0.0, math.log(3.0)]))
        probe.gamma.fill_(2.0)
    # softmax(0, log 3) = 1/4, 3/4: 2 (1/4 [4, 8] + 3/4 [0, 4]) = [2, 10]
    features = torch.tensor([[[[4.0, 8.0], [0.0, 4.0]]]], dtype=torch.double)
    assert probe.weights.tolist() == pytest.approx([0.25, 0.75])
    assert probe.mixed(features)[0, 0].tolist() == pytest.approx([2.0, 10.0])


def test_the_layer_that_holds_the_answer_has_the_weight_and_a_fit_forgets_the_one_before() -> None:
    probe, train = ScalarMixProbe(module(), 3), examples()
    first = probe.fit(train, 1.0)
    assert probe.weights.argmax() == 1
    assert probe.weights[1] > 0.5
    assert float(probe.gamma.detach()) > 1
    probe.fit(train, 100.0)
    second = probe.fit(train, 1.0)
    for one, other in zip(first.parameters, second.parameters, strict=True):
        assert torch.equal(one, other)


def test_a_fit_is_where_the_gradient_vanishes() -> None:
    probe, (ids, features, positions, labels) = ScalarMixProbe(module(), 3), examples()
    fitted = probe.fit((ids, features, positions, labels), 5.0)
    weight, bias, scalars, gamma = (each.requires_grad_() for each in fitted.parameters)
    x = gamma * torch.einsum("l,nld->nd", scalars.softmax(0), ((features - fitted.mean) / fitted.deviation)[:, 0])
    losses = torch.nn.functional.cross_entropy(x @ weight.T + bias, labels, reduction="sum")
    total = losses + 0.5 * (5.0 * weight.pow(2).sum() + scalars.pow(2).sum() + (gamma - 1).pow(2).sum())
    total.backward()
    for each in (weight, bias, scalars, gamma):
        assert each.grad is not None
        assert each.grad.abs().max() < 1e-3
