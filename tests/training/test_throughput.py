"""Rates of training: without the first window of each process, the wait for data, and padding that is computed."""

import time
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from protoformer.data.batching.loader import BatchLoader
from protoformer.data.batching.samplers import BatchConfig, MicroBatchSampler
from protoformer.training.callbacks import throughput as module_under_test
from protoformer.training.callbacks.throughput import Counts, Throughput, count
from protoformer.training.results.result import training_stats


def run_windows(
    throughput: Throughput, seconds: list[float], monkeypatch: pytest.MonkeyPatch, waited: float = 0.0
) -> Any:
    """Windows of so many seconds each, and `waited` times as many before their first batch."""
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
        train_dataloader=SimpleNamespace(seconds_waited=0.0),
    )
    for window in seconds:
        trainer.train_dataloader.seconds_waited += waited * window
        throughput.on_train_batch_start(trainer, None, None, 0)  # type: ignore[arg-type]
        throughput._counts = torch.tensor([10.0, 100.0, 150.0, 200.0, 1e6], dtype=torch.double)
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
    assert second.total == Counts(40.0, 400.0, 600.0, 800.0, 4e6, 0.0, 52.0)
    assert second.warm == Counts(20.0, 200.0, 300.0, 400.0, 2e6, 0.0, 2.0)


def test_states_of_earlier_checkpoints_are_read() -> None:
    throughput = Throughput()
    throughput.load_state_dict({"examples": 1.0, "tokens": 2.0, "flops": 3.0, "seconds": 4.0})
    assert throughput.warm == Counts(examples=1.0, tokens=2.0, flops=3.0, seconds=4.0)


def test_the_wait_for_data_is_a_part_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    throughput = Throughput()
    trainer = run_windows(throughput, [30.0, 3.0, 3.0], monkeypatch, waited=1 / 3)
    stats = training_stats(trainer, throughput, 60.0)
    assert (stats["data_wait"], stats["tokens_per_s"]) == (0.25, 25.0)  # 2 of 8 seconds
    assert stats["packing_efficiency"] == 0.75


def test_a_loader_counts_the_seconds_until_a_batch_is_there() -> None:
    def slow(rows: list[int]) -> dict[str, torch.Tensor]:
        time.sleep(0.02)
        return {"ids": torch.tensor(rows)}

    loader = BatchLoader(MicroBatchSampler(np.full(8, 5), BatchConfig(2), shuffle=False), slow)
    for _ in loader:
        time.sleep(0.05)  # a training step
    assert 0.08 <= loader.seconds_waited < 0.2


@pytest.mark.parametrize(("packing", "positions"), [("off", 2 * 3 + 2 * 4), ("auto", 3 + 2 + 1 + 4)])
def test_positions_that_are_computed_for_both_sides(packing: str, positions: int) -> None:
    module: Any = SimpleNamespace(
        backbone=SimpleNamespace(packing=packing), flops=lambda batch: torch.tensor(7.0, dtype=torch.double)
    )
    batch = {
        "example_ids": torch.tensor([4, -1]),  # the second row only fills the batch up
        "padding_mask": torch.tensor([[True, True, True], [True, True, False]]),
        "decoder_mask": torch.tensor([[True, False, False, False], [True, True, True, True]]),
    }
    assert count(module, batch).tolist() == [1, 3, 4, positions, 7]
