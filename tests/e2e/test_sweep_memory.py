"""The jobs of a sweep follow each other in one process: none may hold what an earlier one held."""

import gc
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from protoformer.commands import train
from protoformer.distributed import memory
from protoformer.errors import DivergedError
from protoformer.training.session import TrainingSession

from .commands import SMALL

MIB = 2**20


@pytest.fixture
def idle_collector() -> Iterator[None]:
    """What is found released was released on purpose."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("idle_collector", "whole_runs")
def test_five_jobs_hold_no_more_than_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[weakref.ref[Any]] = []
    alive: list[int] = []
    session, run = TrainingSession.__init__, TrainingSession.run

    def opened(self: Any, *arguments: Any) -> None:
        alive.append(sum(module() is not None for module in begun))
        session(self, *arguments)
        begun.append(weakref.ref(self.parts.module))

    def ended(self: Any) -> Any:
        results = run(self)
        if len(begun) in (2, 3):  # a user's error and a bug, each with the job in its frames
            raise DivergedError("the loss is nan") if len(begun) == 2 else RuntimeError("a bug")
        return results

    monkeypatch.setattr(TrainingSession, "__init__", opened)
    monkeypatch.setattr(TrainingSession, "run", ended)
    places = [f"paths.outputs={tmp_path / 'outputs'}", f"paths.cache={tmp_path / 'cache'}"]
    overrides = [*SMALL, "source.rows=48", "recipe.max_steps=2", *places, "seed=range(1,6)"]
    assert train.main(["-m", *overrides]) == 1
    assert len(begun) == 5
    assert alive == [0] * 5
    assert all(module() is None for module in begun)


def test_the_peak_of_a_job_is_its_own() -> None:
    memory.begin()
    before = memory.peak(on_gpu=False)
    large = bytearray(b"x" * (64 * MIB))
    with_it = memory.peak(on_gpu=False)
    assert with_it - before >= 60 * MIB
    del large
    try:
        memory.CLEAR_REFS.write_text(memory.RESET_PEAK_RSS)
    except OSError:
        pytest.skip("this system keeps the peak of a process")
    memory.begin()
    assert memory.peak(on_gpu=False) < with_it - 32 * MIB


def test_without_a_way_to_forget_the_process_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "CLEAR_REFS", tmp_path / "no" / "clear_refs")
    monkeypatch.setattr(memory, "STATUS", tmp_path / "no" / "status")
    memory.begin()
    assert memory.peak(on_gpu=False) > 10 * MIB
