"""Class weights: the loss of torch's CrossEntropyLoss(weight), also over micro-batches; balanced ones from training rows."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from protoformer.errors import ConfigurationError
from protoformer.models.bert import bert
from protoformer.modules.kinds.classification import ClassificationModule
from protoformer.modules.objective import class_weights
from protoformer.modules.objective.gradient_normalizer import GradientNormalizer

WEIGHTS = [0.05, 1.0, 0.2]


def module(**settings) -> ClassificationModule:
    torch.manual_seed(0)
    backbone = bert(vocab_size=50, d_model=16, n_layers=1, n_heads=2, d_ff=32, max_seq_len=16, dropout=0.0)
    labels = settings.pop("labels", ["a", "b", "c"])
    metrics = ["accuracy"] if labels else ["pearson"]
    return ClassificationModule(backbone=backbone, labels=labels, metrics=metrics, splits={}, **settings)


def batch(rows: int) -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    ids = torch.randint(1, 50, (rows, 1, 8))
    return {
        "ids": ids,
        "padding_mask": torch.ones_like(ids, dtype=torch.bool),
        "segment_ids": torch.zeros_like(ids),
        "pooler_position": torch.zeros(rows, 1, dtype=torch.long),
        "example_ids": torch.arange(rows),
        "labels": torch.tensor([0, 1, 2, 0, 0, 2, 0, 0])[:rows],
    }


@pytest.mark.parametrize("micro_batch", [8, 2, 1])
def test_the_gradient_is_that_of_torchs_weighted_loss(micro_batch: int) -> None:
    """The last two rows are of a label whose weights add up to less than 1: they alone are a batch below."""
    ours, whole = module(class_weights=WEIGHTS), batch(8)
    theirs = module()
    logits = theirs(whole)
    expected = nn.CrossEntropyLoss(weight=torch.tensor(WEIGHTS))(logits, whole["labels"])
    expected.backward()
    optimizer = torch.optim.SGD(ours.parameters(), lr=1.0)
    normalizer = GradientNormalizer(None)
    for start in range(0, 8, micro_batch):
        loss = ours.loss({name: tensor[start : start + micro_batch] for name, tensor in whole.items()})
        normalizer.add(loss)
        loss.total.backward()
    metrics, _ = normalizer.apply(optimizer, reduce=lambda sums: sums, divided_by=1, step=0)
    assert metrics.loss == pytest.approx(expected.item(), rel=1e-6)
    for (name, actual), wanted in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(actual.grad, wanted.grad, rtol=1e-4, atol=1e-7, msg=name)


def test_two_ranks_have_the_gradient_of_one() -> None:
    """Ranks whose rows weigh differently: the mean is over the weights of both, as is that of gradients, which are averaged."""
    theirs, whole = module(), batch(8)
    expected = nn.CrossEntropyLoss(weight=torch.tensor(WEIGHTS))(theirs(whole), whole["labels"])
    expected.backward()
    ranks = [module(class_weights=WEIGHTS) for _ in range(2)]
    losses = [ours.loss({name: rows[rank::2] for name, rows in whole.items()}) for rank, ours in enumerate(ranks)]
    assert losses[0].targets != losses[1].targets
    for loss in losses:
        loss.total.backward()
    of_both = list(zip(*(ours.parameters() for ours in ranks), strict=True))
    for first, second in of_both:
        first.grad = (first.grad + second.grad) / 2  # as DistributedDataParallel
    normalizer = GradientNormalizer(None)
    normalizer.add(losses[0])
    others = torch.stack([losses[1].total.detach(), losses[1].targets]).double()

    def reduce(sums: torch.Tensor) -> torch.Tensor:
        return sums + torch.cat([others, others.new_zeros(len(sums) - 2)]).to(sums.dtype)

    metrics, _ = normalizer.apply(torch.optim.SGD(ranks[0].parameters(), lr=1.0), reduce=reduce, divided_by=2, step=0)
    assert metrics.loss == pytest.approx(expected.item(), rel=1e-6)
    for (actual, _), wanted in zip(of_both, theirs.parameters(), strict=True):
        torch.testing.assert_close(actual.grad, wanted.grad, rtol=1e-4, atol=1e-7)


def test_a_batch_whose_weights_add_up_to_less_than_1_is_a_mean_all_the_same() -> None:
    ours, rows = module(class_weights=WEIGHTS), {name: tensor[6:] for name, tensor in batch(8).items()}
    normalizer = GradientNormalizer(None)
    loss = ours.loss(rows)
    normalizer.add(loss)
    loss.total.backward()
    metrics, _ = normalizer.apply(
        torch.optim.SGD(ours.parameters(), lr=1.0), reduce=lambda sums: sums, divided_by=1, step=0
    )
    assert metrics.loss == pytest.approx(nn.functional.cross_entropy(ours(rows), rows["labels"]).item(), rel=1e-6)


def test_the_dev_loss_is_weighted_as_well() -> None:
    ours, rows = module(class_weights=WEIGHTS), batch(8)
    logits = ours(rows).detach()
    evaluation = ours.evaluate("val", "", (rows["example_ids"], logits, rows["labels"]))
    expected = nn.CrossEntropyLoss(weight=torch.tensor(WEIGHTS))(logits, rows["labels"])
    assert evaluation.other_metrics["loss"] == pytest.approx(expected.item(), rel=1e-6)


def test_balanced_weights_are_those_of_scikit_learn() -> None:
    from sklearn.utils.class_weight import compute_class_weight

    ours, labels = module(class_weights="balanced"), [0] * 6 + [1] * 3 + [2]
    ours.prepare_training(SimpleNamespace(labels=labels))
    expected = compute_class_weight("balanced", classes=np.arange(3), y=labels)
    assert ours.class_weights is not None
    assert ours.class_weights.tolist() == pytest.approx(list(expected))
    assert "class_weights" not in ours.state_dict()
    with pytest.raises(ConfigurationError, match="no training row has the label c"):
        ours.prepare_training(SimpleNamespace(labels=[0, 1]))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"class_weights": [1, 2]}, "2 weights for 3 labels"),
        ({"class_weights": [1, 2, 0]}, "every weight is a number above 0"),
        ({"class_weights": "balanced", "labels": None}, "needs labels; this task is a regression"),
    ],
)
def test_weights_that_do_not_fit_are_refused(settings, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        module(**settings)


def test_a_label_that_no_training_row_has_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(class_weights.log, "warning", lambda text, *values: said.append(text % values))
    module().prepare_training(SimpleNamespace(labels=np.array([1, 1, 0])))
    module().prepare_training(SimpleNamespace(labels=np.array([2, 1, 0])))
    module(labels=None).prepare_training(SimpleNamespace(labels=np.array([0.5, 1.0])))
    module(labels=[f"l{i}" for i in range(12)]).prepare_training(SimpleNamespace(labels=np.array([0])))
    ending = ": the first rows of a file that is sorted by label?"
    assert said == [
        f"no training row has the label c{ending}",
        f"no training row has the label l1, l2, l3, l4, l5, l6, l7, l8 (nor 3 others){ending}",
    ]
