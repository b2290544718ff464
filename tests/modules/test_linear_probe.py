"""The head of a linear probe is where its objective is least: against equations of that point."""

from types import SimpleNamespace

import pytest
import torch
from sklearn.linear_model import LogisticRegression

from protoformer.modules.kinds.classification import ClassificationModule
from protoformer.modules.kinds.multiple_choice import MultipleChoiceModule
from protoformer.modules.linear_probe import LinearProbe


class Features(torch.nn.Module):
    """In place of a backbone: features are given."""

    d_model, dropout = 5, 0.5
    embeddings = SimpleNamespace(token=torch.nn.Embedding(3, 5))


def examples(count: int, sequences: int, labels: torch.Tensor) -> tuple[torch.Tensor, ...]:
    torch.manual_seed(0)
    features = 3 * torch.randn(count, sequences, Features.d_model, dtype=torch.double) + 1
    return torch.arange(count), features, torch.zeros(count, sequences, dtype=torch.long), labels


def standardised(features: torch.Tensor) -> torch.Tensor:
    rows = features.flatten(0, 1)
    return (features - rows.mean(0)) / rows.std(0, correction=0)


def build(labels: list[str] | None, cls: type[ClassificationModule] = ClassificationModule) -> ClassificationModule:
    names = {"choices": labels} if cls is MultipleChoiceModule else {"labels": labels}
    metrics = ["accuracy"] if labels else ["pearson"]
    return cls(backbone=Features(), metrics=metrics, splits={}, **names)  # type: ignore[arg-type]  # no Backbone


def test_a_regression_is_the_ridge_solution() -> None:
    torch.manual_seed(1)
    labels = torch.randn(30, dtype=torch.double)
    train = examples(30, 1, labels)
    module = build(None)
    (predicted,) = LinearProbe(module).fit_and_predict(train, [train])
    x = standardised(train[1])[:, 0]
    # sum (x w + b - y)^2 + |w|^2 / 2: (x'x + I/2) w = x'(y - b), where x is centred and b the mean of y
    w = torch.linalg.solve(x.T @ x + 0.5 * torch.eye(5, dtype=torch.double), x.T @ (labels - labels.mean()))
    assert module.head.linear.weight[0].tolist() == pytest.approx(w.tolist(), abs=1e-5)
    assert predicted[1][:, 0].tolist() == pytest.approx((x @ w + labels.mean()).tolist(), abs=1e-4)


@pytest.mark.parametrize("sequences", [1, 2])
def test_a_classifier_is_where_the_gradient_vanishes(sequences: int) -> None:
    labels = torch.arange(40) % 3
    train = examples(40, sequences, labels)
    module = build(["a", "b", "c"])
    LinearProbe(module).fit_and_predict(train, [])
    x = standardised(train[1]).sum(1)
    weight, bias = module.head.linear.weight.detach(), module.head.linear.bias.detach()
    residual = (x @ weight.T + bias).softmax(-1) - torch.nn.functional.one_hot(labels, 3)
    assert (residual.T @ x + weight).abs().max() < 1e-4
    assert residual.sum(0).abs().max() < 1e-4


def test_choices_share_one_vector_and_absent_ones_have_no_probability() -> None:
    labels = torch.arange(40) % 2
    ids, features, positions, _ = examples(40, 3, labels)
    positions[:, 2] = -1
    module = build(["a", "b", "c"], MultipleChoiceModule)
    (predicted,) = LinearProbe(module).fit_and_predict(
        (ids, features, positions, labels), [(ids, features, positions, labels)]
    )
    present = features[:, :2]
    rows = present.flatten(0, 1)
    x = (present - rows.mean(0)) / rows.std(0, correction=0)
    weight = module.head.linear.weight.detach()[0]
    residual = (x @ weight).softmax(-1) - torch.nn.functional.one_hot(labels, 2)
    assert (torch.einsum("nc,ncd->d", residual, x) + weight).abs().max() < 1e-4
    assert (predicted[1][:, 2] == -torch.inf).all()


def test_rows_without_a_label_are_not_fitted_to_and_a_fit_forgets_the_one_before() -> None:
    labels = torch.arange(20) % 2
    ids, features, positions, _ = examples(20, 1, labels)
    hidden = torch.cat([labels, torch.full((5,), -1)])
    more = torch.cat([features, 100 * torch.ones(5, 1, 5, dtype=torch.double)])
    probe = LinearProbe(build(["a", "b"]))
    whole = (torch.arange(25), more, torch.zeros(25, 1, dtype=torch.long), hidden)
    (first,) = probe.fit_and_predict(whole, [(ids, features, positions, labels)])
    (second,) = probe.fit_and_predict((ids, features, positions, labels), [(ids, features, positions, labels)])
    assert torch.equal(first[1], second[1])


@pytest.mark.parametrize("strength", [0.5, 20.0])
def test_a_classifier_is_that_of_scikit_learn(strength: float) -> None:
    labels = torch.arange(40) % 3
    train = examples(40, 1, labels)
    probe = LinearProbe(build(["a", "b", "c"]))
    probe.fit(train, strength)
    _, logits, _ = probe.predict(train)
    theirs = LogisticRegression(C=1 / strength, tol=1e-8, max_iter=1000).fit(standardised(train[1])[:, 0], labels)
    expected = theirs.predict_proba(standardised(train[1])[:, 0])
    assert logits.double().softmax(-1).numpy() == pytest.approx(expected, abs=1e-4)


def test_an_earlier_fit_is_restored() -> None:
    labels = torch.arange(40) % 2
    train, probe = examples(40, 1, labels), LinearProbe(build(["a", "b"]))
    fitted = probe.fit(train, 3.0)
    before = probe.predict(train)[1]
    probe.fit(train, 300.0)
    assert not torch.equal(probe.predict(train)[1], before)
    probe.restore(fitted)
    assert torch.equal(probe.predict(train)[1], before)


def test_rounding_of_a_constant_feature_is_no_feature() -> None:
    labels = torch.arange(40) % 2
    ids, features, positions, _ = examples(40, 1, labels)
    features[..., 0] = 7 + 1e-7 * labels[:, None]
    probe = LinearProbe(build(["a", "b"]))
    assert probe.fit((ids, features, positions, labels)).deviation[0] == 1
