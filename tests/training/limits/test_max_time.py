"""Training for a time: by a clock of the test, of which a step takes ten seconds and a validation thirty."""

import json
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch

from protoformer.config.compose import compose
from protoformer.durations import canonical, seconds_of
from protoformer.errors import ConfigurationError, InterruptedRunError
from protoformer.models.weights import read_pickle
from protoformer.optim import clock as clocks
from protoformer.optim.clock import TrainingClock
from protoformer.optim.schedules import lr_factor, timed_lr_factor
from protoformer.runs.identity import run_id
from protoformer.runs.metrics import read_metrics
from protoformer.training.callbacks.step_logger import StepLogger
from protoformer.training.run import train

from ...forked_ranks import forked_ranks

WORDS = [
    *("model=bert_l2_h128", "task=glue/mrpc", "source=sample", "source.rows=120", "init_from=scratch", "tracking=none"),
    *("model.d_model=16", "model.d_ff=32", "recipe.batch_size=8", "recipe.lr=1e-3", "recipe.warmup=0.25", "task.max_len=24"),
    *("trainer.limit_train_batches=6", "trainer.limit_val_batches=1", "trainer.limit_test_batches=1"),
    *("trainer.log_every=1", "trainer.keep_optimizer=true", "trainer.checkpoint_every=1", "hardware.threads=1"),
]  # fmt: skip


@pytest.fixture
def time_passes(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]

    def step(self: StepLogger, *rest: Any) -> None:
        now[0] += 10.0

    def validate(self: StepLogger, trainer: pl.Trainer, module: Any) -> None:
        now[0] += 30.0

    monkeypatch.setattr(clocks, "now", lambda: now[0])
    monkeypatch.setattr(StepLogger, "on_train_batch_start", step)
    monkeypatch.setattr(StepLogger, "on_validation_start", validate)
    return now


def config(outputs: Path, *overrides: str) -> dict[str, Any]:
    return compose([*WORDS, f"paths.outputs={outputs}", f"paths.cache={outputs.parent / 'cache'}", *overrides])


def run_folder(outputs: Path) -> Path:
    return next(outputs.rglob("config.yaml")).parent


def rates(outputs: Path) -> list[float]:
    return [
        line["train/lr"] / 1e-3 for line in read_metrics(run_folder(outputs) / "metrics.jsonl") if "train/lr" in line
    ]


def training(outputs: Path) -> dict[str, Any]:
    return json.loads((run_folder(outputs) / "result.json").read_text(encoding="utf-8"))["training"]


def test_the_schedule_follows_the_clock_and_the_run_is_finished_at_its_end(
    tmp_path: Path, time_passes: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    """Two minutes: six steps, a validation of half a minute, three more steps. A step's rate is that of the end of the step
    before it."""
    overrides = ["recipe.epochs=null", "recipe.max_time=2m"]
    train(config(tmp_path / "out", *overrides), "")
    done = training(tmp_path / "out")
    assert (done["steps"], done["ended_by"], done["max_time_seconds"]) == (9, "max_time", 120)
    assert done["time_seconds"] == 150  # a validation of half a minute follows the last step
    warm_up, decay = [0, 10 / 30, 20 / 30], [(120 - time) / 90 for time in (30, 40, 50, 60, 100, 110)]
    assert rates(tmp_path / "out") == pytest.approx([*warm_up, *decay])
    printed = capsys.readouterr()
    assert "steps of 8 rows, for 2m at most" in printed.out
    assert "was spent at step 9" in printed.err
    assert train(config(tmp_path / "out", *overrides), "") is not None  # finished: nothing is trained again


def test_the_time_goes_on_from_a_checkpoint(
    tmp_path: Path, time_passes: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    overrides = ["recipe.max_time=90s", "recipe.epochs=50"]
    train(config(tmp_path / "whole", *overrides), "")
    tick = StepLogger.on_train_batch_start

    def stop(self: StepLogger, trainer: pl.Trainer, module: Any, *rest: Any) -> None:
        tick(self, trainer, module, *rest)  # type: ignore[arg-type]
        module.stop.signal_number = int(trainer.global_step >= 3)

    with monkeypatch.context() as patched:
        patched.setattr(StepLogger, "on_train_batch_start", stop)
        with pytest.raises(InterruptedRunError, match="stopped at step 4"):
            train(config(tmp_path / "again", *overrides), "")
    time_passes[0] += 5000.0  # while the run is stopped, no time for training is spent
    train(config(tmp_path / "again", *overrides), "")
    assert rates(tmp_path / "again") == pytest.approx(rates(tmp_path / "whole"))
    assert training(tmp_path / "again")["steps"] == training(tmp_path / "whole")["steps"]
    weights = [
        read_pickle(run_folder(tmp_path / name) / "checkpoints" / "last.ckpt")["state_dict"]
        for name in ("whole", "again")
    ]
    assert all(torch.equal(tensor, weights[1][name]) for name, tensor in weights[0].items())


def test_a_run_that_was_stopped_behind_its_last_step_trains_no_further(
    tmp_path: Path, time_passes: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    overrides = ["recipe.max_time=40s", "recipe.epochs=50"]

    def killed(*rest: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("protoformer.training.session.evaluate", killed)
        with pytest.raises(KeyboardInterrupt):
            train(config(tmp_path / "out", *overrides), "")
    train(config(tmp_path / "out", *overrides), "")
    assert training(tmp_path / "out")["steps"] == 4
    assert len(rates(tmp_path / "out")) == 4


def test_whichever_limit_is_first_ends_the_run_and_the_schedule(tmp_path: Path, time_passes: list[float]) -> None:
    train(config(tmp_path / "out", "recipe.max_time=1h", "recipe.epochs=1", "recipe.warmup=0"), "")
    done = training(tmp_path / "out")
    assert (done["steps"], done["ended_by"]) == (6, "steps")
    assert rates(tmp_path / "out") == pytest.approx([(6 - step) / 6 for step in range(6)])


def test_two_ranks_have_one_clock(tmp_path: Path, time_passes: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    """The second rank's clock runs ten times as fast, and counts for nothing."""
    start = clocks.TrainingClock.start

    def hurry(self: TrainingClock) -> None:
        start(self)
        if torch.distributed.get_rank():
            now = clocks.now
            monkeypatch.setattr(clocks, "now", lambda: 10 * now())

    monkeypatch.setattr(clocks.TrainingClock, "start", hurry)
    with forked_ranks():
        train(
            config(tmp_path / "out", "hardware=ddp_cpu", "recipe.max_time=40s", "recipe.epochs=9", "recipe.warmup=0"),
            "",
        )
    assert rates(tmp_path / "out") == pytest.approx([1.0, 0.75, 0.5, 0.25])
    assert training(tmp_path / "out")["ended_by"] == "max_time"


@pytest.mark.parametrize("warmup", [0.0, 0.2])
@pytest.mark.parametrize("schedule", ["linear", "cosine", "constant", "noam"])
def test_a_clock_of_equal_steps_gives_the_schedule_by_steps(schedule: Any, warmup: float) -> None:
    clock = TrainingClock(100.0)
    shape = {"decay": 0.8, "final_lr": 0.1, "d_model": 16}
    by_time = timed_lr_factor(schedule, warmup, clock, total_steps=None, **shape)
    by_steps = lr_factor(schedule, 0 if schedule == "noam" else round(warmup * 50), 50, **shape)
    for step in range(51):
        clock.agree(2.0 * step)
        assert by_time(step) == pytest.approx(by_steps(step))


def test_a_warm_up_of_steps_stays_one_and_the_decay_begins_where_it_ends() -> None:
    clock = TrainingClock(100.0)
    factor = timed_lr_factor("linear", 4, clock)
    factors = []
    for step, seconds in enumerate([0, 20, 30, 35, 40, 70, 100, 120]):
        clock.agree(seconds)
        if step == 6:  # the run is continued
            continued = TrainingClock(100.0)
            continued.load_state_dict(clock.state_dict())
            clock, factor = continued, timed_lr_factor("linear", 4, continued)
        factors.append(factor(step))
    assert factors == pytest.approx([0, 0.25, 0.5, 0.75, 1.0, 0.5, 0.0, 0.0])


def test_one_duration_has_one_run_name(tmp_path: Path) -> None:
    plain, *timed = (
        run_id(config(tmp_path / "out", *words)) for words in ([], ["recipe.max_time=90m"], ["recipe.max_time=1h30m"])
    )
    assert timed[0] == timed[1] != plain


@pytest.mark.parametrize("value", ["90", "1:30", "0s", "0.0001s", "2 hours", "-1h", "30s1h", "h", "1e3"])
def test_what_is_no_duration_is_refused_in_one_line(tmp_path: Path, value: str) -> None:
    with pytest.raises(ConfigurationError, match=r"recipe\.max_time=.* does not fit; expected a duration such as 30s"):
        config(tmp_path / "out", f"recipe.max_time='{value}'")


@pytest.mark.parametrize(
    ("typed", "text", "seconds"),
    [
        ("1.1h", "1h6m", 3960.0),  # in binary 3960.0000000000005
        ("1.7d", "1d16h48m", 146880.0),
        ("1.005m", "1m0.3s", 60.3),
        ("59.9999999s", "1m", 60.0),
        ("1234567.89s", "14d6h56m7.89s", 1234567.89),
        ("100000s", "1d3h46m40s", 100000.0),
    ],
)
def test_a_duration_has_one_spelling_that_is_read_back(typed: str, text: str, seconds: float) -> None:
    assert canonical(typed) == text == canonical(text)
    assert seconds_of(text) == seconds
