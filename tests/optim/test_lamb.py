"""LAMB against the paper's algorithm in plain numbers, tensor by tensor."""

import math
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from protoformer.modules.task_module import TaskModule
from protoformer.optim.adamw import BertAdam, adamw
from protoformer.optim.lamb import Lamb
from protoformer.optim.optimization import Optimization

LR, DECAY, EPS, BETAS = 0.02, 0.1, 1e-6, (0.9, 0.999)


def weights(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(*shape, dtype=torch.float64))


def gradient(p: Tensor, step: int) -> Tensor:
    return torch.cos(3 * p.detach() + step) + 0.3 * p.detach()


def by_hand(start: list[float], steps: int, decay: float, trust_ratio: bool, bias_correction: bool) -> list[float]:
    """Algorithm 2, one number after the other; `trust_ratio` False takes 1 for it."""
    x, m, v = list(start), [0.0] * len(start), [0.0] * len(start)
    for t in range(1, steps + 1):
        g = [math.cos(3 * value + t - 1) + 0.3 * value for value in x]
        m = [BETAS[0] * a + (1 - BETAS[0]) * b for a, b in zip(m, g, strict=True)]
        v = [BETAS[1] * a + (1 - BETAS[1]) * b * b for a, b in zip(v, g, strict=True)]
        corrections = [1 - BETAS[0] ** t, 1 - BETAS[1] ** t] if bias_correction else [1.0, 1.0]
        r = [(a / corrections[0]) / (math.sqrt(b / corrections[1]) + EPS) for a, b in zip(m, v, strict=True)]
        u = [a + decay * b for a, b in zip(r, x, strict=True)]
        weight_norm, update_norm = math.sqrt(sum(a * a for a in x)), math.sqrt(sum(a * a for a in u))
        ratio = weight_norm / update_norm if trust_ratio and weight_norm > 0 and update_norm > 0 else 1.0
        x = [a - LR * ratio * b for a, b in zip(x, u, strict=True)]
    return x


def walk(optimizer: torch.optim.Optimizer, params: list[nn.Parameter], steps: range) -> None:
    for step in steps:
        for p in params:
            p.grad = gradient(p, step)
        optimizer.step()


def groups(matrices: list[nn.Parameter], vectors: list[nn.Parameter]) -> list[dict]:
    return [{"params": matrices, "weight_decay": DECAY}, {"params": vectors, "weight_decay": 0.0}]


@pytest.mark.parametrize("bias_correction", [True, False])
def test_it_equals_the_papers_algorithm(bias_correction: bool) -> None:
    torch.manual_seed(0)
    matrices, vectors = [weights(3, 4), nn.Parameter(torch.zeros(2, 2, dtype=torch.float64))], [weights(5)]
    params = [*matrices, *vectors]
    starts = [p.detach().flatten().tolist() for p in params]
    walk(Lamb(groups(matrices, vectors), LR, BETAS, EPS, bias_correction=bias_correction), params, range(7))
    for p, start in zip(params, starts, strict=True):
        expected = by_hand(start, 7, DECAY if p.ndim == 2 else 0.0, p.ndim == 2, bias_correction)
        assert p.detach().flatten().tolist() == pytest.approx(expected, rel=1e-9)


def test_a_matrix_moves_by_its_own_norm_and_a_vector_as_under_adam() -> None:
    torch.manual_seed(0)
    matrix, vector = weights(4, 4), weights(4)
    alike = nn.Parameter(vector.detach().clone())
    before = matrix.detach().clone()
    walk(Lamb(groups([matrix], [vector]), LR, BETAS, EPS), [matrix, vector], range(1))
    assert float((matrix.detach() - before).norm() / before.norm()) == pytest.approx(LR)
    walk(adamw([{"params": [alike], "weight_decay": 0.0}], LR, BETAS, EPS), [alike], range(1))
    torch.testing.assert_close(vector, alike, rtol=1e-9, atol=1e-12)


def test_a_parameter_without_gradient_is_left_alone_and_counts_its_own_steps() -> None:
    torch.manual_seed(0)
    often, seldom = weights(2, 3), weights(2, 3)
    start = seldom.detach().clone()
    optimizer = Lamb(groups([often, seldom], []), LR, BETAS, EPS)
    walk(optimizer, [often], range(3))
    assert torch.equal(seldom, start)
    often.grad = None
    walk(optimizer, [seldom], range(2))
    expected = by_hand(start.flatten().tolist(), 2, DECAY, True, True)
    assert seldom.detach().flatten().tolist() == pytest.approx(expected, rel=1e-9)


def test_it_continues_bit_for_bit_from_a_checkpoint_of_plain_tensors(tmp_path: Path) -> None:
    torch.manual_seed(0)
    whole = [nn.Parameter(torch.randn(3, 4)), nn.Parameter(torch.randn(4))]
    part = [nn.Parameter(p.detach().clone()) for p in whole]
    walk(Lamb(groups(whole[:1], whole[1:]), LR), whole, range(6))
    first = Lamb(groups(part[:1], part[1:]), LR)
    walk(first, part, range(2))
    torch.save(first.state_dict(), tmp_path / "state.pt")
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    assert all(type(value) is Tensor for one in state["state"].values() for value in one.values())
    second = Lamb(groups(part[:1], part[1:]), 0.5)
    second.load_state_dict(state)
    walk(second, part, range(2, 6))
    assert all(torch.equal(a, b) for a, b in zip(whole, part, strict=True))


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ({}, torch.optim.AdamW),
        ({"bias_correction": False}, BertAdam),
        ({"optimizer": "lamb"}, Lamb),
        ({"optimizer": "lamb", "bias_correction": False}, Lamb),
    ],
)
def test_the_recipe_chooses(options: dict, kind: type) -> None:
    module = TaskModule(Optimization(lr=1e-3, **options))
    module.layer = nn.Linear(2, 2)
    module.backbone = SimpleNamespace(d_model=2)  # type: ignore[assignment]
    module.connect(total_steps=10)
    optimizer = module.configure_optimizers()["optimizer"]  # type: ignore[index, call-overload]
    assert type(optimizer) is kind
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.01, 0.0]
    if kind is Lamb:
        assert optimizer.bias_correction is options.get("bias_correction", True)
