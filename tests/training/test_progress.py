"""What a person sees while a run trains: a bar on a terminal, a line now and then in a file."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from protoformer.modules.objective.gradient_normalizer import StepMetrics
from protoformer.training.callbacks.progress import ProgressBar, ProgressLines, abbreviate
from protoformer.training.callbacks.throughput import Rates, Throughput


def fake(step: int) -> tuple[Any, Any]:
    metrics = {"val/score": torch.tensor(0.75)}
    trainer = SimpleNamespace(global_step=step, is_global_zero=True, callback_metrics=metrics, sanity_checking=False)
    trainer.state = SimpleNamespace(fn="fit")
    return trainer, SimpleNamespace(step_metrics=StepMetrics(0.5, 1.0, 1e-3, {}), total_steps=100)


def test_the_bar_shows_loss_dev_score_and_speed() -> None:
    speed = Throughput()
    trainer, module = fake(3)
    bar = ProgressBar(speed)
    assert bar.get_metrics(trainer, module) == {"loss": "0.5000", "dev": "0.7500"}
    speed.rates = Rates(123.4, 12605.0, 1e9)
    assert bar.get_metrics(trainer, module) == {"loss": "0.5000", "dev": "0.7500", "ex/s": "123", "tok/s": "12.6k"}
    assert [abbreviate(number) for number in (0.123, 9.99, 999, 1000, 123456)] == ["0.123", "9.99", "999", "1k", "123k"]


def test_lines_come_now_and_then_with_the_time_left(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr("protoformer.training.callbacks.progress.time.monotonic", lambda: now[0])
    speed = Throughput()
    speed.rates = Rates(50.0, 2000.0, 1e9)
    lines = ProgressLines(speed, every_n_seconds=15)
    trainer, module = fake(20)  # a run that continues from step 20
    lines.on_train_start(trainer, module)
    for step, at in ((21, 10.0), (40, 20.0), (41, 22.0)):
        trainer.global_step, now[0] = step, at
        lines.on_train_batch_end(trainer, module, None, None, 0)
    lines.on_validation_end(trainer, module)
    message = capsys.readouterr().out.splitlines()
    assert message == [
        "step 40/100  loss 0.5000  50 ex/s  2000 tok/s  1.0 min left",
        "step 41  dev score 0.7500",
    ]
