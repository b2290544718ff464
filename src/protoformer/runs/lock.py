"""Lock of a run folder: one job at a time owns it.

The lock is a file with host, process, job and a token; its modification time is a heartbeat. It is made by linking a finished
file into place, so nobody reads half of one. On the owner's machine its process decides (see `processes`), whatever the clock
says: a stopped or suspended owner is one. Elsewhere a lock is free to take when the same job returns (a requeue), or when its
heartbeat has stopped for `stale` seconds, by the clock of the file system. Network file systems do not honour flock.
"""

import contextlib
import json
import os
import re
import secrets
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from protoformer import processes
from protoformer.distributed.signals import cleaned_up_by
from protoformer.errors import RunFolderError

LEFT_BEHIND = re.compile(r"\.lock-([0-9a-f]*-\d+-\d*)-[0-9a-f]{16}(?:-aside)?")  # of takers; else an earlier version's
SECOND_LOOK = 0.5  # seconds after which a foreign token is looked at again
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
        self.clean_up = contextlib.ExitStack()

    def __enter__(self) -> "RunLock":
        self.folder.mkdir(parents=True, exist_ok=True)
        own_file = self.folder / f".lock-{processes.name()}-{self.token}"
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
                    self._clear_dead(own_file)
            else:
                raise RunFolderError(f"{self.folder}: its lock changed owners repeatedly; try again")
        finally:
            own_file.unlink(missing_ok=True)
        for left in self.folder.glob(".lock-*"):
            match = LEFT_BEHIND.fullmatch(left.name)
            if match is None or processes.lives(match[1]) is False:
                left.unlink(missing_ok=True)
        self.thread = threading.Thread(target=self._beat, daemon=True, name="run-lock")
        self.thread.start()
        self.clean_up.enter_context(cleaned_up_by(self._remove))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop.set()
        if self.thread is not None:
            self.thread.join()
        self.clean_up.close()
        self._remove()

    def _remove(self) -> None:
        if _read(self.file).get("token") == self.token:
            self.file.unlink(missing_ok=True)

    def _clear_dead(self, own_file: Path) -> None:
        """Take a dead owner's lock out of the way, or raise. Two takers cannot both remove it, nor a new owner's."""
        owner = _read(self.file)
        if not self._is_dead(owner, own_file):
            since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(owner.get("since", 0)))
            raise RunFolderError(
                f"{self.folder} is in use by process {owner.get('pid')} on {owner.get('host')} since {since}; wait for "
                f"it or stop it (the lock of a process killed on another machine expires {self.stale:.0f} s after its last "
                "heartbeat)"
            )
        set_aside = self.folder / f".lock-{processes.name()}-{self.token}-aside"
        try:
            os.rename(self.file, set_aside)
        except FileNotFoundError:
            return
        if _read(set_aside).get("token") != owner.get("token"):  # another taker was quicker: this is its new lock
            with contextlib.suppress(FileExistsError):
                os.link(set_aside, self.file)
        set_aside.unlink(missing_ok=True)

    def _is_dead(self, owner: dict[str, Any], own_file: Path) -> bool:
        lives = processes.lives(owner["process"]) if owner.get("process") else None
        if lives is not None:
            return not lives
        stale = self.stale
        if owner.get("job") and owner["job"] == _job():
            if owner.get("restarts") != _restarts():
                return True
            stale = min(stale, 3 * self.heartbeat)  # started again by a cluster that does not count
        os.utime(own_file)  # now, by the clock that stamps the heartbeat
        try:
            return own_file.stat().st_mtime - self.file.stat().st_mtime > stale
        except FileNotFoundError:
            return True

    def _beat(self) -> None:
        foreign_tokens = 0
        while not self.stop.wait(SECOND_LOOK if foreign_tokens else self.heartbeat):
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


def remove_dead_lock(folder: Path) -> None:
    """Remove the lock of a process of this machine that is gone, in a folder that nobody needs to own any more."""
    process = _read(folder / "lock").get("process")
    if process and processes.lives(process) is False:
        (folder / "lock").unlink(missing_ok=True)


def is_in_use(folder: Path, stale: float = 90.0) -> bool:
    """Whether a job that may be alive owns a folder; takes no lock."""
    file = folder / "lock"
    owner = _read(file)
    lives = processes.lives(owner["process"]) if owner.get("process") else None
    if lives is not None:
        return lives
    with contextlib.suppress(FileNotFoundError):
        return time.time() - file.stat().st_mtime < stale
    return False


def _identity() -> dict[str, object]:
    return {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "process": processes.name(),
        "job": _job(),
        "restarts": _restarts(),
    }


def _job() -> str:
    return next((os.environ[name] for name in JOB_IDS if os.environ.get(name)), "")


def _restarts() -> str:
    """How often the cluster has started this job again: the same number is the same job, on another of its machines."""
    return os.environ.get("SLURM_RESTART_COUNT", "0")


def _read(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
