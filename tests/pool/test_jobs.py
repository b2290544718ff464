"""Jobs of a pool around trials that only write a run's files: failed, stopped, the same run twice, of several devices."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from protoformer.distributed.signals import StopRequest
from protoformer.errors import DiskFullError, InterruptedRunError
from protoformer.pool import process
from protoformer.pool.jobs import JobPool, PooledJob
from protoformer.pool.slots import Slot, Slots

FAKE = Path(__file__).parents[1] / "sweeps" / "fake_trial.py"
CORE = max(os.sched_getaffinity(0))


@pytest.fixture(autouse=True)
def fake_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "command", lambda: [sys.executable, str(FAKE)])


def jobs_of(outputs: Path, *words: str, slots: int = 1) -> list[PooledJob]:
    """A job for each text of overrides; their folders are named as fake_trial.py names them."""
    jobs = []
    for number, text in enumerate(words, start=1):
        name = "-".join(f"{key}-{value}" for key, _, value in sorted(word.partition("=") for word in text.split()))
        all_words = [*text.split(), f"paths.outputs={outputs}"]
        jobs.append(PooledJob(number, text, all_words, outputs / "runs" / name, 5.0, slots))
    return jobs


def run(outputs: Path, jobs: list[PooledJob], count: int = 2, stop: StopRequest | None = None) -> list[str]:
    """Run jobs on as many slots, all of one core; what was said."""
    lines: list[str] = []
    slots = Slots([Slot(f"slot {number}", (CORE,)) for number in range(count)])
    pool = JobPool(jobs, outputs / "pool", slots, lines.append, lambda result: f"{100 * result['score']:.1f}", 0.01)
    pool.run(stop or StopRequest())
    assert slots.free == count
    return lines


def until(met: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not met():
        assert time.monotonic() < deadline, "not met in time"
        time.sleep(0.01)


def side_by_side(lines: list[str]) -> int:
    """The most trials that ran at once."""
    running = most = 0
    for line in lines:
        running += 1 if line.endswith(": started") else -1
        most = max(most, running)
    assert running == 0
    return most


def test_each_job_ends_as_a_row_with_its_device_and_output_of_its_own(tmp_path: Path) -> None:
    words = ("lr=0.1", "lr=0.2 fails=nan", "lr=0.3 fails=killed", "lr=0.4 fails=text", "lr=0.5")
    jobs = jobs_of(tmp_path, *words)
    lines = run(tmp_path, jobs)
    assert [(job.status, job.exit_code) for job in jobs] == [
        ("finished", 0), ("failed", 4), ("failed", 1), ("failed", 1), ("finished", 0),
    ]  # fmt: skip
    assert [job.error for job in jobs[1:4]] == [
        "the loss is not finite at step 3",
        "ended by SIGKILL; too little memory is the usual cause",
        "exit code 1: RuntimeError: no kernel image",
    ]
    assert {job.device for job in jobs} == {f"core {CORE}"}
    assert all(job.seconds for job in jobs)
    assert side_by_side(lines) == 2
    assert lines[0] == f"trial 1/5 on core {CORE}: lr=0.1: started"
    assert any(line.startswith(f"trial 5/5 on core {CORE}: lr=0.5: finished in ") for line in lines)
    assert any("score 50.0 (" in line for line in lines)
    for job in jobs:  # each in a file of its own
        assert (tmp_path / "pool" / f"{job.number}.log").read_text().splitlines()[
            0
        ] == f"overrides {' '.join(job.words)}"


def test_a_trial_is_pinned_before_its_first_line_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES")
    program = f"import os; print(os.sched_getaffinity(0), *map(os.environ.get, {names}))"
    monkeypatch.setattr(process, "command", lambda: [sys.executable, "-c", program])
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    log = tmp_path / "1.log"
    placement = Slots([Slot("GPU 1", (CORE,), "GPU-77")]).take(1)
    assert placement is not None
    trial = process.TrialProcess([], log, 5.0, placement)
    until(lambda: trial.poll() is not None)
    assert log.read_text() == f"{{{CORE}}} 1 GPU-77\n"


def test_trials_of_two_devices_take_two_slots(tmp_path: Path) -> None:
    jobs = jobs_of(tmp_path, "lr=0.1", "lr=0.2", "lr=0.3", slots=2)
    assert side_by_side(run(tmp_path, jobs, count=3)) == 1
    assert [job.status for job in jobs] == ["finished"] * 3


def test_of_two_jobs_that_are_one_run_the_second_waits(tmp_path: Path) -> None:
    jobs = [*jobs_of(tmp_path, "lr=0.1", "lr=0.1"), *jobs_of(tmp_path, "lr=0.2")]
    lines = run(tmp_path, jobs, count=3)
    begun = [line.split()[1].split("/")[0] for line in lines if line.endswith("started")]
    assert begun == ["1", "1", "2"]  # the third job, then the second
    assert [job.status for job in jobs] == ["finished"] * 3


def test_a_signal_stops_all_trials_and_none_is_begun_after_it(tmp_path: Path) -> None:
    jobs, stop = jobs_of(tmp_path, "lr=0.1 wait=1", "lr=0.2 wait=1", "lr=0.3 wait=1"), StopRequest()

    def interrupt() -> None:
        until(lambda: len(list(tmp_path.glob("runs/*/metrics.jsonl"))) == 2)
        stop.receive(signal.SIGHUP)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(InterruptedRunError, match="stopped: 2 trials unfinished and 1 not started; the same command"):
        run(tmp_path, jobs, stop=stop)
    thread.join()
    assert [job.status for job in jobs] == ["stopped", "stopped", "not started"]


def test_a_full_disk_stops_the_pool(tmp_path: Path) -> None:
    jobs = jobs_of(tmp_path, "lr=0.1 fails=full", "lr=0.2 wait=1", "lr=0.3")
    with pytest.raises(DiskFullError, match="no space left"):
        run(tmp_path, jobs)
    assert [job.status for job in jobs] == ["failed", "stopped", "not started"]
