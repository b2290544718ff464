"""Gradient normalisation: one reduction and one wait for the device a step, whatever is logged with it."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from protoformer.errors import DivergedError
from protoformer.modules.objective.gradient_normalizer import GradientNormalizer, StepMetrics
from protoformer.modules.objective.loss import Loss
from protoformer.modules.task_module import TaskModule


class Reads(TorchDispatchMode):
    """Counts the reads of a tensor's value, for which the host waits for a device."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):  # type: ignore[no-untyped-def]
        self.count += "_local_scalar_dense" in str(function)
        return function(*arguments, **(keywords or {}))


@contextmanager
def counted_lists(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The sizes of all tensors that are read as lists."""
    sizes: list[int] = []
    tolist = Tensor.tolist

    def counted(self: Tensor) -> list[float]:
        sizes.append(self.numel())
        return tolist(self)

    with monkeypatch.context() as patched:
        patched.setattr(Tensor, "tolist", counted)
        yield sizes


def layer(grad: float = 2.0) -> tuple[nn.Linear, torch.optim.Optimizer]:
    linear = nn.Linear(2, 2, bias=False)
    linear.weight.grad = torch.full((2, 2), grad)
    return linear, torch.optim.SGD(linear.parameters(), lr=0.5)


def loss(total: float, targets: float, right: float) -> Loss:
    return Loss(torch.tensor(total), torch.tensor(targets), {"accuracy": (torch.tensor(right), torch.tensor(targets))})


def test_sums_over_micro_batches_and_ranks_become_means() -> None:
    linear, optimizer = layer()
    normalizer = GradientNormalizer(clip=None)
    assert normalizer.is_empty
    normalizer.add(loss(6.0, 3.0, 1.0))
    normalizer.add(loss(2.0, 1.0, 1.0))
    metrics, stop = normalizer.apply(optimizer, reduce=lambda sums: 2 * sums, divided_by=4, step=0)  # two equal ranks
    assert normalizer.is_empty
    assert metrics == StepMetrics(loss=2.0, grad_norm=2.0, lr=0.5, running_metrics={"accuracy": 0.5})
    assert metrics.named() == {"train/loss": 2.0, "train/accuracy": 0.5, "train/grad_norm": 2.0, "train/lr": 0.5}
    assert not stop
    assert linear.weight.grad is not None
    assert torch.equal(linear.weight.grad, torch.full((2, 2), 2.0 * 4 / 8))


def test_one_step_reduces_once_and_waits_for_the_device_once(monkeypatch: pytest.MonkeyPatch) -> None:
    _, optimizer = layer()
    normalizer, reductions, reads = GradientNormalizer(clip=1.0), [], Reads()

    def reduce(sums: Tensor) -> Tensor:
        reductions.append(sums.numel())
        return sums

    with reads, counted_lists(monkeypatch) as lists:
        normalizer.add(loss(6.0, 3.0, 1.0))
        normalizer.apply(optimizer, reduce=reduce, divided_by=1, step=0, stop_requested=True)
    assert reductions == [5]  # (sum, count) of loss and accuracy, and the request to stop
    assert lists == [6]  # with the norm
    assert reads.count == 0


def test_the_clip_is_of_the_mean_gradient() -> None:
    linear, optimizer = layer(grad=2.0)  # norm 4, after division by 2 targets 2
    normalizer = GradientNormalizer(clip=0.5)
    normalizer.add(Loss(torch.tensor(1.0), torch.tensor(2.0)))
    metrics, _ = normalizer.apply(optimizer, reduce=lambda sums: sums, divided_by=1, step=0)
    assert metrics.grad_norm == 2.0
    torch.testing.assert_close(linear.weight.grad, torch.full((2, 2), 0.25), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("requested", [False, True])
def test_one_rank_that_was_asked_stops_all(requested: bool) -> None:
    _, optimizer = layer()
    normalizer = GradientNormalizer(clip=None)
    normalizer.add(Loss(torch.tensor(1.0), torch.tensor(2.0)))

    def with_another_rank(sums: Tensor) -> Tensor:
        return sums + sums.new_tensor([1.0, 2.0, float(requested)])

    _, stop = normalizer.apply(optimizer, reduce=with_another_rank, divided_by=2, step=0)
    assert stop == requested


@pytest.mark.parametrize(
    ("total", "grad", "message"),
    [(math.nan, 1.0, "the loss is nan at step 7"), (1.0, math.inf, "the gradient's norm is inf at step 7")],
)
def test_divergence_is_reported_before_gradients_are_scaled(total: float, grad: float, message: str) -> None:
    linear, optimizer = layer(grad)
    normalizer = GradientNormalizer(clip=1.0)
    normalizer.add(Loss(torch.tensor(total), torch.tensor(2.0)))
    with pytest.raises(DivergedError, match=f"{message}; stopped before the weights were touched"):
        normalizer.apply(optimizer, reduce=lambda sums: sums, divided_by=1, step=7)
    assert torch.equal(linear.weight.grad, torch.full((2, 2), grad))  # type: ignore[arg-type]


def test_an_overflow_that_a_scaler_skips_is_no_divergence() -> None:
    _, optimizer = layer(math.inf)
    normalizer = GradientNormalizer(clip=None)
    normalizer.add(Loss(torch.tensor(1.0), torch.tensor(2.0)))
    metrics, _ = normalizer.apply(optimizer, reduce=lambda sums: sums, divided_by=1, step=0, overflow_is_skipped=True)
    assert math.isinf(metrics.grad_norm)


def test_a_step_without_a_micro_batch_is_a_bug() -> None:
    _, optimizer = layer()
    with pytest.raises(RuntimeError, match="an optimizer step without a training step"):
        GradientNormalizer(None).apply(optimizer, reduce=lambda sums: sums, divided_by=1, step=0)


@pytest.mark.parametrize("divisor", [1, 64])
def test_a_loss_that_was_divided_for_fp16_gives_the_same_step(divisor: int) -> None:
    linear, optimizer = layer(6.0 / divisor)
    normalizer = GradientNormalizer(clip=None)
    normalizer.loss_divisor = divisor
    assert float(normalizer.scaled(torch.tensor(128.0))) == 128.0 / divisor
    normalizer.add(loss(12.0, 3.0, 0.0))
    metrics, _ = normalizer.apply(optimizer, reduce=lambda sums: sums, divided_by=1, step=0)
    assert torch.equal(linear.weight.grad, torch.full((2, 2), 2.0))
    assert (metrics.loss, metrics.grad_norm, metrics.skipped_steps) == (4.0, 4.0, None)
    assert "train/skipped_steps" not in metrics.named()


def test_skipped_steps_are_counted_and_end_a_run_that_skips_forever(caplog: pytest.LogCaptureFixture) -> None:
    normalizer = GradientNormalizer(clip=None)

    def step(grad: float) -> StepMetrics:
        normalizer.add(loss(1.0, 1.0, 0.0))
        optimizer = layer(grad)[1]
        return normalizer.apply(optimizer, reduce=lambda sums: sums, divided_by=1, step=7, overflow_is_skipped=True)[0]

    assert [step(grad).skipped_steps for grad in (math.inf, math.nan, 1.0, math.inf)] == [1, 2, 2, 3]
    assert step(1.0).named()["train/skipped_steps"] == 3.0
    for _ in range(39):
        step(math.nan)
    with pytest.raises(DivergedError, match="gradients of 40 steps in a row are not finite at step 7"):
        step(math.nan)


def test_the_schedule_stands_still_on_a_skipped_step() -> None:
    module: TaskModule[Any, Any] = TaskModule(None)
    parameter = nn.Parameter(torch.zeros(1))
    scheduler = torch.optim.lr_scheduler.LambdaLR(torch.optim.SGD([parameter], lr=1.0), lambda step: 1.0 + step)
    scheduler.optimizer.step()
    module.lr_scheduler_step(scheduler, None)
    module._gradient_normalizer.skipped_in_a_row = 1
    module.lr_scheduler_step(scheduler, None)
    assert scheduler.get_last_lr() == [2.0]
    module._gradient_normalizer.skipped_in_a_row = 0
    module.lr_scheduler_step(scheduler, None)
    assert scheduler.get_last_lr() == [3.0]


def test_the_count_of_skipped_steps_goes_on_in_a_continued_run() -> None:
    module: TaskModule[Any, Any] = TaskModule(None)
    checkpoint: dict[str, Any] = {}
    module.on_save_checkpoint(checkpoint)
    assert checkpoint == {}  # nothing to say without a scaler
    module._gradient_normalizer.skipped_steps = 5
    module.on_save_checkpoint(checkpoint)
    continued: TaskModule[Any, Any] = TaskModule(None)
    continued.on_load_checkpoint(checkpoint)
    assert continued.skipped_steps == 5
