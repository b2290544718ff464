"""Mean rates leave out the first window of each process, in which a device warms up."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from protoformer.training.callbacks import throughput as module_under_test
from protoformer.training.callbacks.throughput import Counts, Throughput
from protoformer.training.result import training_stats


def run_windows(throughput: Throughput, seconds: list[float], monkeypatch: pytest.MonkeyPatch) -> Any:
    clock = iter([time for end in seconds for time in (0.0, end)])
    monkeypatch.setattr(module_under_test.time, "perf_counter", lambda: next(clock))
    strategy = SimpleNamespace(reduce=lambda counts, reduce_op: counts)
    trainer: Any = SimpleNamespace(
        strategy=strategy,
        world_size=1,
        global_step=len(seconds),
        current_epoch=0,
        num_training_batches=len(seconds),
        accumulate_grad_batches=1,
        callbacks=[],
    )
    for _ in seconds:
        throughput.on_train_batch_start(trainer, None, None, 0)  # type: ignore[arg-type]
        throughput._counts = torch.tensor([10.0, 100.0, 1e6], dtype=torch.double)
        throughput._end_window(trainer)
    return trainer


def test_the_first_window_counts_in_seconds_but_not_in_rates(monkeypatch: pytest.MonkeyPatch) -> None:
    throughput = Throughput(peak_flops_per_s=1e7)
    trainer = run_windows(throughput, [30.0, 1.0, 1.0], monkeypatch)
    stats = training_stats(trainer, throughput, 40.0)
    assert (stats["seconds"], stats["tokens_per_s"], stats["examples_per_s"]) == (32.0, 100.0, 10.0)
    assert stats["mfu"] == 0.1


def test_a_single_window_is_all_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    throughput = Throughput()
    trainer = run_windows(throughput, [4.0], monkeypatch)
    assert training_stats(trainer, throughput, 5.0)["tokens_per_s"] == 25.0


def test_a_continued_run_warms_up_again(monkeypatch: pytest.MonkeyPatch) -> None:
    first = Throughput()
    run_windows(first, [30.0, 1.0], monkeypatch)
    second = Throughput()
    second.load_state_dict(first.state_dict())
    run_windows(second, [20.0, 1.0], monkeypatch)
    assert second.total == Counts(40.0, 400.0, 4e6, 52.0)
    assert second.warm == Counts(20.0, 200.0, 2e6, 2.0)


def test_states_of_earlier_checkpoints_are_read() -> None:
    throughput = Throughput()
    throughput.load_state_dict({"examples": 1.0, "tokens": 2.0, "flops": 3.0, "seconds": 4.0})
    assert throughput.warm == Counts(1.0, 2.0, 3.0, 4.0)
