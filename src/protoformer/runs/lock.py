"""Lock of a run folder: one job at a time owns it.

The lock is a file with host, pid, job and a token; its modification time is a heartbeat. It is made by linking a finished
file into place, so nobody reads half of one. A lock is free to take when its heartbeat has stopped for `stale` seconds,
when the same job returns (a requeue), or when its process is known to be gone: the same machine since the same boot, and
no process of that pid *and* start time. A pid alone proves nothing, and network file systems do not honour flock.
"""

import contextlib
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from protoformer.errors import RunFolderError

JOB_IDS = ("SLURM_JOB_ID", "LSB_JOBID", "PBS_JOBID", "JOB_ID")


class RunLock:
    """Context manager; raises RunFolderError when a living job owns the folder."""

    def __init__(
        self,
        folder: Path,
        heartbeat: float = 15.0,
        stale: float = 90.0,
        lost: Callable[[], None] | None = None,
    ) -> None:
        self.folder, self.file = folder, folder / "lock"
        self.heartbeat, self.stale, self.lost = heartbeat, stale, lost
        self.token = secrets.token_hex(8)
        self.stop = threading.Event()
        self.thread: threading.Thread | None = None

    def __enter__(self) -> "RunLock":
        self.folder.mkdir(parents=True, exist_ok=True)
        own_file = self.folder / f".lock-{self.token}"
        with own_file.open("w", encoding="utf-8") as file:
            file.write(json.dumps({**_identity(), "token": self.token, "since": time.time()}))
            file.flush()
            os.fsync(file.fileno())
        try:
            for _ in range(100):
                try:
                    os.link(own_file, self.file)
                    break
                except FileExistsError:
                    self._clear_dead()
            else:
                raise RunFolderError(f"{self.folder}: its lock changed owners repeatedly; try again")
        finally:
            own_file.unlink(missing_ok=True)
        self.thread = threading.Thread(target=self._beat, daemon=True, name="run-lock")
        self.thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop.set()
        if self.thread is not None:
            self.thread.join()
        if _read(self.file).get("token") == self.token:
            self.file.unlink(missing_ok=True)

    def _clear_dead(self) -> None:
        """Take a dead owner's lock out of the way, or raise. Two takers cannot both remove it, nor a new owner's."""
        owner = _read(self.file)
        if not self._is_dead(owner):
            since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(owner.get("since", 0)))
            raise RunFolderError(
                f"{self.folder} is in use by process {owner.get('pid')} on {owner.get('host')} since {since}; wait for "
                f"it or stop it (the lock of a killed process expires {self.stale:.0f} s after its last heartbeat)"
            )
        set_aside = self.folder / f".lock-{self.token}-aside"
        try:
            os.rename(self.file, set_aside)
        except FileNotFoundError:
            return
        if _read(set_aside).get("token") != owner.get("token"):  # another taker was quicker: this is its new lock
            with contextlib.suppress(FileExistsError):
                os.link(set_aside, self.file)
        set_aside.unlink(missing_ok=True)

    def _is_dead(self, owner: dict[str, Any]) -> bool:
        try:
            silent_seconds = time.time() - self.file.stat().st_mtime
        except FileNotFoundError:
            return True
        if silent_seconds > self.stale:
            return True
        if not owner:  # being written by somebody, or left empty by a crash: the clock decides
            return False
        current = _identity()
        if all(owner.get(key) == current[key] for key in ("host", "boot", "pid_namespace")):
            return _started(int(owner.get("pid", 0))) != owner.get("started")
        return bool(owner.get("job")) and owner.get("job") == current["job"]

    def _beat(self) -> None:
        foreign_tokens = 0
        while not self.stop.wait(self.heartbeat):
            if _read(self.file).get("token") == self.token:
                foreign_tokens = 0
                with contextlib.suppress(FileNotFoundError):
                    os.utime(self.file)
                continue
            foreign_tokens += 1  # a taker puts a living owner's lock aside for a moment: one look proves nothing
            if foreign_tokens > 1:
                if self.lost is not None:
                    self.lost()
                return


def _identity() -> dict[str, Any]:
    boot = Path("/proc/sys/kernel/random/boot_id")
    space = Path("/proc/self/ns/pid")
    return {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "started": _started(os.getpid()),
        "boot": boot.read_text(encoding="utf-8").strip() if boot.exists() else "",
        "pid_namespace": os.readlink(space) if space.exists() else "",
        "job": next((os.environ[name] for name in JOB_IDS if os.environ.get(name)), ""),
    }


def _started(pid: int) -> str | None:
    """When a process began, in the kernel's ticks; None where there is no such process (or no /proc)."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()
    return None if fields[0] == "Z" else fields[19]


def _read(file: Path) -> dict[str, Any]:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
