"""Processes that load data: they end with the process they load for, whoever is killed, and stay when a group is signalled."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

PROGRAM = """
import os, signal, sys, time
from pathlib import Path
from torch.utils.data import DataLoader
from protoformer.data.batching import loader

def main():
    data = loader.BatchLoader.__new__(loader.BatchLoader)
    DataLoader.__init__(data, list(range(10**6)), num_workers=2, multiprocessing_context="forkserver",
                        worker_init_fn=loader.partial(loader._begin_worker, os.getpid()))
    with loader._lost_worker_named():
        data.modules = []
        batches = data._started(super(loader.BatchLoader, data).__iter__)
        next(batches)
        print(*(worker.pid for worker in batches._workers), flush=True)
        for line in sys.stdin:
            [next(batches) for _ in range(100)]
            print("alive", flush=True)
            if line.strip() == "raise":
                raise ZeroDivisionError

if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a run notes it
    main()
"""


def children(pid: int) -> set[int]:
    """Living processes below `pid`."""
    found: set[int] = set()
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
        except OSError:
            continue
        if int(parent) == pid and state not in "ZX":
            found |= {int(entry.name)} | children(int(entry.name))
    return found


def all_end(pids: set[int], seconds: float = 5) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not any(Path(f"/proc/{pid}/stat").exists() and _alive(pid) for pid in pids):
            return True
        time.sleep(0.05)
    return False


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


@pytest.fixture
def loading(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process of its own session that loads data with two workers."""
    program = tmp_path / "loading.py"
    program.write_text(PROGRAM)
    process = subprocess.Popen(
        [sys.executable, program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    yield process
    for pid in {process.pid, *children(process.pid)}:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait()
    for pipe in (process.stdin, process.stdout, process.stderr):
        assert pipe is not None
        pipe.close()


def test_workers_outlive_signals_to_the_group_and_end_with_an_error(loading: subprocess.Popen[str]) -> None:
    assert loading.stdin is not None
    assert loading.stdout is not None
    workers = {int(pid) for pid in loading.stdout.readline().split()}
    started = children(loading.pid)
    assert workers < started  # the forkserver and the resource tracker besides
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGINT):
        for pid in started:
            os.kill(pid, number)
    loading.stdin.write("\n")
    loading.stdin.flush()
    assert loading.stdout.readline() == "alive\n"
    loading.stdin.write("raise\n")
    loading.stdin.flush()
    loading.wait(timeout=20)
    assert all_end(started)


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["process", "forkserver"])
def test_all_end_with_a_kill(loading: subprocess.Popen[str], victim: str) -> None:
    assert loading.stdin is not None
    assert loading.stdout is not None
    workers = {int(pid) for pid in loading.stdout.readline().split()}
    started = children(loading.pid)
    (forkserver,) = {pid for pid in started if children(pid) >= workers}
    os.kill(loading.pid if victim == "process" else forkserver, signal.SIGKILL)
    if victim == "forkserver":
        assert all_end(workers)
        loading.stdin.write("\n")
        loading.stdin.close()
        assert loading.stderr is not None
        loading.wait(timeout=20)
        assert "a process that loads data was killed" in loading.stderr.read()
    assert all_end(started)
