"""What a person sees while a run trains: a bar on a terminal, a line now and then in a file."""

import io
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from rich.console import Console

from protoformer.data.batching.samplers import BatchConfig, Phase, PhasedSampler
from protoformer.modules.objective.gradient_normalizer import StepMetrics
from protoformer.training.callbacks.bar import ProgressBar, clock
from protoformer.training.callbacks.progress import ProgressLines, abbreviate, passes
from protoformer.training.callbacks.throughput import Counts, Rates, Throughput


def fake(step: int, total: int = 100) -> tuple[Any, Any]:
    metrics = {"val/score": torch.tensor(0.75), "val/perplexity": torch.tensor(20.5)}
    trainer = SimpleNamespace(global_step=step, is_global_zero=True, callback_metrics=metrics, sanity_checking=False)
    trainer.state = SimpleNamespace(fn="fit")
    trainer.world_size = trainer.accumulate_grad_batches = 1
    trainer.num_training_batches, trainer.current_epoch = 40, step // 40
    trainer.fit_loop = SimpleNamespace(_should_accumulate=lambda: False)
    return trainer, SimpleNamespace(step_metrics=StepMetrics(0.5, 1.0, 1e-3, {}), total_steps=total, evaluations={})


def line_of(bar: ProgressBar) -> str:
    with bar.console.capture() as capture:
        bar.console.print(bar.render())
    return capture.get()


@pytest.fixture
def clocked(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr("protoformer.training.callbacks.progress.time.monotonic", lambda: now[0])
    return now


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_the_bar_counts_the_runs_steps_and_fits_the_terminal(
    width: int, clocked: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    speed = Throughput()
    speed.rates = Rates(123.4, 12605.0, 1e9, None, 0.0, 1.0)
    bar = ProgressBar(speed, Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None))
    trainer, module = fake(20, total=12630)  # a run that continues from step 20
    bar._open = lambda trainer: None  # type: ignore[method-assign]
    bar.on_train_start(trainer, module)
    trainer.global_step, clocked[0] = 60, 80.0
    bar.on_validation_end(trainer, module)
    assert capsys.readouterr().out == "step 60  dev score 75.00\n"
    (line,) = line_of(bar).splitlines()
    assert len(f"{line.rstrip()}^C") < width
    assert line.startswith("step 60/12,630")
    details = ["6:59:00 left", "loss 0.5", "dev 75.00", "epoch 2/316", "12.6k tok/s"]
    shown = [detail for detail in details if detail in line]
    assert shown == details[: len(shown)]
    assert len(shown) == {40: 1, 60: 3, 80: 4, 120: 5}[width]


def test_the_bar_counts_batches_where_it_validates() -> None:
    bar = ProgressBar(Throughput(), Console(file=io.StringIO(), width=80))
    trainer, _ = fake(3)
    bar._open = lambda trainer: None  # type: ignore[method-assign]
    trainer.num_val_batches = [3, 4]
    bar.on_validation_start(trainer, None)  # type: ignore[arg-type]
    bar.on_validation_batch_end(trainer, None, None, {"example_ids": torch.tensor([0, 1, -1])})  # type: ignore[arg-type]
    assert "validating 1/7" in line_of(bar)
    assert "examples/s" in line_of(bar)


def test_an_evaluation_says_how_far_and_how_fast_it_is(
    clocked: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    lines = ProgressLines(Throughput(), every_n_seconds=15)
    trainer, _ = fake(0)
    trainer.num_test_batches = [10]
    module = SimpleNamespace(evaluation_details=["reuse 8.1"])
    lines.on_test_start(trainer, module)  # type: ignore[arg-type]
    for number, clocked[0] in enumerate((10.0, 20.0)):
        lines.on_test_batch_end(trainer, module, None, {"example_ids": torch.arange(64)}, number)  # type: ignore[arg-type]
    assert capsys.readouterr().out == "evaluated 2/10 batches  6.4 examples/s  reuse 8.1  1.3 min left\n"


def test_numbers_are_short() -> None:
    assert [abbreviate(number) for number in (0.123, 9.99, 999, 1000, 123456)] == ["0.123", "9.99", "999", "1k", "123k"]
    assert [abbreviate(number) for number in (0, 999.7, 999_700, 1_234_567, 3e9)] == ["0", "1k", "1M", "1.23M", "3G"]
    assert [clock(seconds) for seconds in (5, 760, 11560, 183600)] == ["0:05", "12:40", "3:12:40", "2 d 3 h"]


def test_lines_come_now_and_then_with_the_time_left(clocked: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    speed = Throughput()
    lines = ProgressLines(speed, every_n_seconds=15)
    trainer, module = fake(20)  # a run that continues from step 20
    speed.total = Counts(1000.0, 9000.0, seconds=100.0)  # before it was interrupted
    lines.on_train_start(trainer, module)
    for step, at, examples in ((21, 10.0, 8.0), (40, 20.0, 1000.0), (41, 22.0, 1100.0), (50, 40.0, 3000.0)):
        trainer.global_step, clocked[0] = step, at
        speed.total = Counts(1000 + examples, 9000 + 40 * examples, seconds=100 + at)
        lines.on_train_batch_end(trainer, module, None, None, 0)
    lines.on_validation_end(trainer, module)
    assert capsys.readouterr().out.splitlines() == [
        "step 40/100  loss 0.5000  50 ex/s  2000 tok/s  1.0 min left",
        "step 50/100  loss 0.5000  100 ex/s  4000 tok/s  1.1 min left",  # of the last 20 s alone
        "step 50  dev score 75.00",
    ]


def test_a_language_model_is_known_by_its_perplexity(capsys: pytest.CaptureFixture[str]) -> None:
    trainer, module = fake(3)
    module.evaluations = {"val": {"": SimpleNamespace(headline="perplexity")}}
    ProgressLines(Throughput()).on_validation_end(trainer, module)
    assert capsys.readouterr().out == "step 3  dev perplexity 20.5\n"


def test_an_epoch_of_a_run_in_phases_is_a_pass_over_its_rows() -> None:
    """Pretraining's sampler counts the whole run as one epoch."""
    trainer, _ = fake(30, total=100)
    sampler = PhasedSampler([Phase(100, 250)], BatchConfig(10))
    trainer.train_dataloader = SimpleNamespace(micro_batches=sampler)
    trainer.num_training_batches = 100
    assert passes(trainer, 30) == pytest.approx(1.2)
    bar = ProgressBar(Throughput(), Console(file=io.StringIO(), width=80))
    bar._show_steps(trainer, SimpleNamespace(total_steps=100))  # type: ignore[arg-type]
    assert "epoch 2/4" in bar.details


def test_the_bar_is_erased_at_the_end_and_drawn_under_what_is_printed() -> None:
    """The line is not drawn once more when it closes, and says `step`, not `validating`, once a dev score is printed."""
    stream = io.StringIO()
    console = Console(file=stream, width=80, force_terminal=True, color_system=None)
    bar = ProgressBar(Throughput(), console)
    trainer, module = fake(3)
    bar.on_train_start(trainer, module)
    assert bar._live is not None
    bar._live.auto_refresh = False
    bar._show_steps(*fake(7))
    bar._live.refresh()
    drawn = stream.getvalue().count("step 7/100")
    assert drawn >= 1
    bar.on_train_end(trainer, module)
    assert stream.getvalue().count("step 7/100") == drawn
    assert stream.getvalue().endswith("\x1b[1A\x1b[2K")
    bar.on_train_end(trainer, module)  # once is enough
