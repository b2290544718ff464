"""Faults of a machine, injected into a process by replacing functions of `os` and `time`; imports nothing slow."""

import contextlib
import json
import os
import signal
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

VARIABLE = "SOAK"


@dataclass(frozen=True)
class Faults:
    """SIGKILL of the process that makes the `nth` call of an `os` function with a path that contains `path`, once: `marker` is
    made then. `clock` seconds are added to the time, and each fsync takes `fsync_seconds` more."""

    call: str = ""
    path: str = ""
    nth: int = 1
    before: bool = True
    marker: str = ""
    clock: float = 0.0
    fsync_seconds: float = 0.0

    def to_variable(self) -> str:
        return json.dumps(asdict(self))


def install() -> None:
    """Install the faults that the environment names."""
    faults = Faults(**json.loads(os.environ.get(VARIABLE, "{}")))
    counts = {"n": 0}

    def is_due(paths: tuple[Any, ...]) -> bool:
        if not any(faults.path in _name(path) for path in paths):
            return False
        counts["n"] += 1
        return counts["n"] == faults.nth

    def faulty(name: str, original: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            if name == "fsync" and faults.fsync_seconds:
                time.sleep(faults.fsync_seconds)
            due = name == faults.call and is_due(args)
            if due and faults.before:
                _kill_once(Path(faults.marker))
            value = original(*args, **kwargs)
            if due:
                _kill_once(Path(faults.marker))
            return value

        return call

    for name in ("fsync", "replace", "unlink", "link"):
        setattr(os, name, faulty(name, getattr(os, name)))
    if faults.clock:
        now = time.time
        time.time = lambda: now() + faults.clock


def _name(path: Any) -> str:
    if isinstance(path, int):
        with contextlib.suppress(OSError):
            return os.readlink(f"/proc/self/fd/{path}")
    return str(path)


def _kill_once(marker: Path) -> None:
    with contextlib.suppress(FileExistsError):
        marker.touch(exist_ok=False)
        os.kill(os.getpid(), signal.SIGKILL)
