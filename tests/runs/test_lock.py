"""One owner of a run folder at a time, whatever became of the last one."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from protoformer import processes
from protoformer.errors import RunFolderError
from protoformer.runs.lock import RunLock, remove_dead_lock

ELSEWHERE = {"host": "elsewhere", "pid": 1, "process": "0123abcd-1-5"}


def test_a_living_owner_keeps_it_and_gives_it_back(tmp_path: Path) -> None:
    with RunLock(tmp_path):
        with pytest.raises(RunFolderError, match=f"in use by process {os.getpid()}"), RunLock(tmp_path):
            pass
        assert json.loads((tmp_path / "lock").read_text())["pid"] == os.getpid()
    assert list(tmp_path.iterdir()) == []
    with RunLock(tmp_path):
        pass


OWN_PID_BEFORE = f"{processes.machine()}-{os.getpid()}-1"  # an earlier process that had our number


def altered(folder: Path, change: Callable[[dict[str, object]], None], age: float = 0.0) -> None:
    """A lock as another process would have left it."""
    with RunLock(folder):
        owner = json.loads((folder / "lock").read_text())
    change(owner)
    (folder / "lock").write_text(json.dumps(owner))
    then = time.time() - age
    os.utime(folder / "lock", (then, then))


def test_another_machines_lock_holds_until_its_heartbeat_stops(tmp_path: Path) -> None:
    altered(tmp_path, lambda owner: owner.update(ELSEWHERE), age=80)
    with pytest.raises(RunFolderError, match="elsewhere"), RunLock(tmp_path):
        pass
    os.utime(tmp_path / "lock", (time.time() - 100,) * 2)
    with RunLock(tmp_path):
        pass


def test_a_process_that_is_gone_and_one_that_got_its_number(tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    altered(tmp_path, lambda owner: owner.update(pid=gone.pid, process=f"{processes.machine()}-{gone.pid}-12"))
    with RunLock(tmp_path):
        pass
    altered(tmp_path, lambda owner: owner.update(process=f"{processes.machine()}-{os.getpid()}-1"))
    with RunLock(tmp_path):
        pass


def test_the_same_job_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    altered(tmp_path, lambda owner: owner.update(ELSEWHERE))
    monkeypatch.setenv("SLURM_JOB_ID", "78")
    with pytest.raises(RunFolderError), RunLock(tmp_path):
        pass
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    with pytest.raises(RunFolderError), RunLock(tmp_path):  # another machine of the same job, as of two steps of srun
        pass
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    with RunLock(tmp_path):
        pass


@pytest.mark.parametrize("shift", [-3600.0, 300.0])
def test_a_living_owner_keeps_it_whatever_the_clock_says(tmp_path: Path, shift: float) -> None:
    with RunLock(tmp_path):
        then = time.time() - shift  # as seen by a clock that is ahead, or set back; or after a suspend
        os.utime(tmp_path / "lock", (then, then))
        with pytest.raises(RunFolderError, match=f"in use by process {os.getpid()}"), RunLock(tmp_path):
            pass


def test_a_dead_owners_lock_is_free_whatever_the_clock_says(tmp_path: Path) -> None:
    altered(tmp_path, lambda owner: owner.update(process=OWN_PID_BEFORE), age=-3600)
    (tmp_path / f".lock-{processes.machine()}-{os.getpid()}-1-{'0' * 16}").touch()
    with RunLock(tmp_path):
        assert [path.name for path in tmp_path.iterdir()] == ["lock"]


def test_a_dead_lock_of_a_finished_run_goes_and_a_living_one_stays(tmp_path: Path) -> None:
    with RunLock(tmp_path):
        remove_dead_lock(tmp_path)
        assert (tmp_path / "lock").exists()
    altered(tmp_path, lambda owner: owner.update(process=OWN_PID_BEFORE))
    remove_dead_lock(tmp_path)
    assert not (tmp_path / "lock").exists()


def test_a_second_command_of_the_same_job_waits_for_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "77")  # two terminals in one allocation
    with RunLock(tmp_path), pytest.raises(RunFolderError, match="in use"), RunLock(tmp_path):
        pass


def test_a_lock_that_a_crash_left_empty_expires(tmp_path: Path) -> None:
    (tmp_path / "lock").touch()
    with pytest.raises(RunFolderError), RunLock(tmp_path):
        pass
    os.utime(tmp_path / "lock", (time.time() - 100,) * 2)
    with RunLock(tmp_path):
        pass


def test_the_heart_beats_and_a_stolen_lock_is_noticed(tmp_path: Path) -> None:
    lost: list[int] = []
    with RunLock(tmp_path, heartbeat=0.05, lost=lambda: lost.append(1)):
        os.utime(tmp_path / "lock", (0, 0))
        for _ in range(100):
            if (tmp_path / "lock").stat().st_mtime > 0:
                break
            time.sleep(0.02)
        else:
            raise AssertionError("no heartbeat")
        (tmp_path / "lock").write_text(json.dumps({"token": "another's"}))
        for _ in range(100):
            if lost:
                break
            time.sleep(0.02)
        assert lost == [1]
    assert (tmp_path / "lock").exists()  # it is not ours to remove
