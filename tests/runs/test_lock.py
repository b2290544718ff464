"""One owner of a run folder at a time, whatever became of the last one."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from protoformer.errors import RunFolderError
from protoformer.runs.lock import RunLock


def test_a_living_owner_keeps_it_and_gives_it_back(tmp_path: Path) -> None:
    with RunLock(tmp_path):
        with pytest.raises(RunFolderError, match=f"in use by process {os.getpid()}"), RunLock(tmp_path):
            pass
        assert json.loads((tmp_path / "lock").read_text())["pid"] == os.getpid()
    assert list(tmp_path.iterdir()) == []
    with RunLock(tmp_path):
        pass


def altered(folder: Path, change: Callable[[dict[str, object]], None], age: float = 0.0) -> None:
    """A lock as another process would have left it."""
    with RunLock(folder):
        owner = json.loads((folder / "lock").read_text())
    change(owner)
    (folder / "lock").write_text(json.dumps(owner))
    then = time.time() - age
    os.utime(folder / "lock", (then, then))


def test_another_machines_lock_holds_until_its_heartbeat_stops(tmp_path: Path) -> None:
    altered(tmp_path, lambda owner: owner.update(host="elsewhere", pid=1), age=80)
    with pytest.raises(RunFolderError, match="elsewhere"), RunLock(tmp_path):
        pass
    os.utime(tmp_path / "lock", (time.time() - 100,) * 2)
    with RunLock(tmp_path):
        pass


def test_a_process_that_is_gone_and_one_that_got_its_number(tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    altered(tmp_path, lambda owner: owner.update(pid=gone.pid))
    with RunLock(tmp_path):
        pass
    altered(tmp_path, lambda owner: owner.update(started="1"))  # our own pid, but of an earlier process
    with RunLock(tmp_path):
        pass


def test_the_same_job_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    altered(tmp_path, lambda owner: owner.update(host="elsewhere", pid=1))
    monkeypatch.setenv("SLURM_JOB_ID", "78")
    with pytest.raises(RunFolderError), RunLock(tmp_path):
        pass
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    with RunLock(tmp_path):
        pass


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
