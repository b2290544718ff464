"""Optimizers, groups and schedules against independent arithmetic and `transformers`."""

import pytest
import torch
import transformers
from torch import nn

from protoformer.optim.adamw import BertAdam, adamw
from protoformer.optim.build import build_optimizer
from protoformer.optim.groups import decay_groups
from protoformer.optim.optimization import Optimization
from protoformer.optim.schedules import Schedule, lr_factor, warmup_steps


def test_only_matrices_decay() -> None:
    model = nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 3), nn.LayerNorm(3))
    model[1].weight.requires_grad_(False)
    decayed, rest = decay_groups(model.parameters(), 0.1)
    assert [tuple(p.shape) for p in decayed["params"]] == [(5, 4)]
    assert [tuple(p.shape) for p in rest["params"]] == [(3,), (3,), (3,)]
    assert (decayed["weight_decay"], rest["weight_decay"]) == (0.1, 0.0)


def adam_by_hand(steps: int, lr: float, bias_correction: bool) -> float:
    """Adam with decoupled decay 0.1 on p = 1, gradient 0.5 p, in plain numbers."""
    p, m, v = 1.0, 0.0, 0.0
    for t in range(1, steps + 1):
        g = 0.5 * p
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        mean, square = (m / (1 - 0.9**t), v / (1 - 0.999**t)) if bias_correction else (m, v)
        p = p - lr * 0.1 * p - lr * mean / (square**0.5 + 1e-6)
    return p


@pytest.mark.parametrize("bias_correction", [True, False])
def test_adamw_with_and_without_bias_correction_equals_the_formula(bias_correction: bool) -> None:
    p = nn.Parameter(torch.ones(2, 2, dtype=torch.float64))
    optimizer = adamw([{"params": [p], "weight_decay": 0.1}], 0.01, (0.9, 0.999), 1e-6, bias_correction)
    for _ in range(7):
        p.grad = 0.5 * p.detach()
        optimizer.step()
    assert p.detach().flatten().tolist() == pytest.approx([adam_by_hand(7, 0.01, bias_correction)] * 4, rel=1e-9)


def test_bert_adam_continues_from_its_state() -> None:
    def steps(p: nn.Parameter, optimizer: BertAdam, count: int) -> None:
        for _ in range(count):
            p.grad = 0.5 * p.detach()
            optimizer.step()

    whole = nn.Parameter(torch.ones(3))
    steps(whole, BertAdam([{"params": [whole]}], 0.01), 6)
    part = nn.Parameter(torch.ones(3))
    first = BertAdam([{"params": [part]}], 0.01)
    steps(part, first, 2)
    second = BertAdam([{"params": [part]}], 0.5)
    second.load_state_dict(first.state_dict())
    steps(part, second, 4)
    assert torch.equal(whole, part)


@pytest.mark.parametrize("name", ["linear", "cosine", "constant"])
def test_schedules_equal_transformers(name: str) -> None:
    parameter = nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    make = {
        "linear": lambda: transformers.get_linear_schedule_with_warmup(optimizer, 10, 100),
        "cosine": lambda: transformers.get_cosine_schedule_with_warmup(optimizer, 10, 100),
        "constant": lambda: transformers.get_constant_schedule_with_warmup(optimizer, 10),
    }[name]
    theirs = make().lr_lambdas[0]
    ours = lr_factor(name, 10, 100)  # type: ignore[arg-type]
    assert [ours(step) for step in range(101)] == pytest.approx([theirs(step) for step in range(101)])


def test_noam_is_the_papers_formula() -> None:
    rate = lr_factor("noam", 4000, 100_000, d_model=512)
    for step in (1, 100, 3999, 4000, 4001, 100_000):  # counted from 1 there
        assert rate(step - 1) == pytest.approx(512**-0.5 * min(step**-0.5, step * 4000**-1.5))
    assert max(range(0, 8000, 1), key=rate) == 3999
    assert rate(3999) == pytest.approx(6.9877e-4, rel=1e-4)


def test_warmup_is_a_fraction_or_a_number_of_steps() -> None:
    assert warmup_steps(0.1, 345) == 35
    assert warmup_steps(2000, 345) == 2000
    with pytest.raises(ValueError, match="linear, constant, cosine, noam"):
        lr_factor("liner", 0, 1)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["linear", "cosine"])
def test_decay_may_end_early_and_above_zero(name: Schedule) -> None:
    """GPT-3's: down to a tenth before training ends."""
    rate = lr_factor(name, 10, 110, decay=0.5, final_lr=0.1)
    plain = lr_factor(name, 10, 55)
    for step in range(55):
        expected = plain(step) if step < 10 else 0.1 + 0.9 * plain(step)
        assert rate(step) == pytest.approx(expected)
    assert [rate(step) for step in (55, 80, 109, 500)] == pytest.approx([0.1] * 4)
    for wrong in ({"decay": 0.0}, {"decay": 1.1}, {"final_lr": -0.1}, {"final_lr": 1.1}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            lr_factor(name, 10, 110, **wrong)


@pytest.mark.parametrize("name", ["sgd", "adafactor"])
def test_torchs_own_optimizers_take_torchs_steps(name: str) -> None:
    """Matrices decay, vectors do not; the rest is torch's."""
    start = [torch.randn(4, 3), torch.randn(4)]
    ours, theirs = ([torch.nn.Parameter(tensor.clone()) for tensor in start] for _ in range(2))
    optimizer = build_optimizer(ours, Optimization(lr=0.05, optimizer=name, momentum=0.9, weight_decay=0.1))
    groups = [{"params": theirs[:1], "weight_decay": 0.1}, {"params": theirs[1:], "weight_decay": 0.0}]
    oracle = torch.optim.SGD(groups, lr=0.05, momentum=0.9) if name == "sgd" else torch.optim.Adafactor(groups, lr=0.05)
    for step in range(3):
        for parameters, each in ((ours, optimizer), (theirs, oracle)):
            for number, parameter in enumerate(parameters):
                parameter.grad = torch.full_like(parameter, 0.1 * (step + 1) + number)
            each.step()
    for actual, expected, before in zip(ours, theirs, start, strict=True):
        assert torch.equal(actual, expected)
        assert not torch.equal(actual, before)
