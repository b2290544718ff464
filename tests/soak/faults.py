"""Faults of a machine, injected into a process by replacing functions of `os`, methods and `time`; imports nothing slow.

Where a call is reached, a signal is sent: to the process that reaches it (a rank), to the command, or to its process group.
"""

import contextlib
import importlib
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

VARIABLE = "SOAK"
COMMAND = "SOAK_COMMAND"  # the process id of the command
OS_CALLS = ("fsync", "replace", "unlink", "link")


@dataclass(frozen=True)
class Faults:
    """A signal at the `nth` call of a function, once: `marker` is made then.

    `call` is a function of `os` that is given a path which contains `path`, or a method, as "module:Class.method". The signal
    comes before the call, or after it, or `delay` seconds after its beginning. `methods` are replaced as well, so that the file
    `trace` has a line for each call of theirs and of `os`. The process that sends the signal then does nothing for
    `stall` seconds, as in compiled code. `clock` seconds are added to the time, and each fsync takes `fsync_seconds` more.
    """

    call: str = ""
    path: str = ""
    nth: int = 1
    before: bool = True
    delay: float = 0.0
    number: int = signal.SIGKILL
    target: str = "self"
    marker: str = ""
    stall: float = 0.0
    methods: tuple[str, ...] = ()
    trace: str = ""
    clock: float = 0.0
    fsync_seconds: float = 0.0

    def to_variable(self) -> str:
        return json.dumps(asdict(self))


def install() -> None:
    """Install the faults that the environment names, but for those of methods, whose modules are slow to import."""
    faults = _faults()
    os.environ.setdefault(COMMAND, str(os.getpid()))
    count = [0]
    for name in OS_CALLS:
        setattr(os, name, _faulty(faults, name, getattr(os, name), count))
    if faults.clock:
        now = time.time
        time.time = lambda: now() + faults.clock


def install_methods() -> None:
    """Install the faults of methods, whose modules are imported."""
    faults = _faults()
    count = [0]
    for name in {*faults.methods, *([faults.call] if ":" in faults.call else [])}:
        module, _, path = name.partition(":")
        owner_name, _, method = path.rpartition(".")
        imported = importlib.import_module(module)
        owner = getattr(imported, owner_name) if owner_name else imported
        setattr(owner, method, _faulty(faults, name, getattr(owner, method), count))


def _faults() -> Faults:
    return Faults(**json.loads(os.environ.get(VARIABLE, "{}")))


def _faulty(faults: Faults, name: str, original: Callable[..., Any], count: list[int]) -> Callable[..., Any]:
    def is_due(arguments: tuple[Any, ...]) -> bool:
        paths = [_name(argument) for argument in arguments] if name in OS_CALLS else []
        if faults.trace:
            with open(faults.trace, "a", encoding="utf-8") as trace:
                trace.write(json.dumps([os.getpid(), name, *paths]) + "\n")
        if name != faults.call or (name in OS_CALLS and not any(faults.path in path for path in paths)):
            return False
        count[0] += 1
        return count[0] == faults.nth

    def call(*args: Any, **kwargs: Any) -> Any:
        if name == "fsync" and faults.fsync_seconds:
            time.sleep(faults.fsync_seconds)
        due = is_due(args)
        if due and faults.delay:
            threading.Thread(target=_send_later, args=(faults,), daemon=True).start()
        elif due and faults.before:
            _send_once(faults)
        value = original(*args, **kwargs)
        if due and not (faults.before or faults.delay):
            _send_once(faults)
        return value

    return call


def _name(path: Any) -> str:
    if isinstance(path, int):
        with contextlib.suppress(OSError):
            return os.readlink(f"/proc/self/fd/{path}")
    return str(path)


def _send_later(faults: Faults) -> None:
    time.sleep(faults.delay)
    _send_once(faults)


def _send_once(faults: Faults) -> None:
    with contextlib.suppress(FileExistsError):
        Path(faults.marker).touch(exist_ok=False)
        command = int(os.environ[COMMAND])
        if faults.target == "group":
            # by a process of its own, as a shell and a cluster do: data workers take TERM from their run's process
            subprocess.run(["kill", f"-{faults.number}", "--", f"-{command}"], check=True, start_new_session=True)
        else:
            os.kill(os.getpid() if faults.target == "self" else command, faults.number)
        time.sleep(faults.stall)
