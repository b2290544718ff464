"""The process of a trial: a fresh `train.py` in a group of its own, pinned to its devices, which ends with its parent."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from protoformer.distributed.children import PARENT_VARIABLE
from protoformer.pool.slots import Placement

NONE = "its process said nothing"
ERROR_TYPE = re.compile(r"[\w.]*(Error|Exception|Interrupt)\b")  # the last line of a traceback


def command() -> list[str]:
    """train.py of the current folder, or the installed one."""
    if Path("train.py").is_file():
        return [sys.executable, "train.py"]
    return [sys.executable, "-m", "protoformer.cli", "train"]


def start(words: Sequence[str], log_file: Path, environ: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Start `train.py` with its overrides in a session of its own; what it prints is appended to `log_file`."""
    with log_file.open("ab") as log:
        return subprocess.Popen(
            [*command(), *words],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=dict(environ),
            start_new_session=True,
        )


class TrialProcess:
    """Starts, watches and ends the process of one trial. Its output is appended to `log_file`."""

    def __init__(self, words: Sequence[str], log_file: Path, grace: float, placement: Placement) -> None:
        self.log_file, self.grace = log_file, grace
        self.started = time.monotonic()
        self.log_start = log_file.stat().st_size if log_file.exists() else 0
        self.exit_code: int | None = None
        self._stop_time: float | None = None
        log_file.parent.mkdir(parents=True, exist_ok=True)
        environ = {**os.environ, PARENT_VARIABLE: str(os.getpid()), **placement.environ(os.environ)}
        with placement.pinned():
            self._process = start(words, log_file, environ)

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started

    def poll(self) -> int | None:
        """The exit code (negative: a signal's number), once the process has ended; what is left of its group is killed then.

        A process that does not end in time after `stop` is killed.
        """
        if self.exit_code is not None:
            return self.exit_code
        if self._stop_time is not None and time.monotonic() - self._stop_time > self.grace:
            self.kill()
        # left unreaped for the moment: its number is its group's, and nobody else can have it
        if os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            return None
        self.kill()
        self.exit_code = self._process.wait()
        return self.exit_code

    def stop(self) -> None:
        """Ask the run to save and end; asked again it ends without saving."""
        if self._stop_time is None:
            self._stop_time = time.monotonic()
        if self.exit_code is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process.pid, signal.SIGTERM)

    def kill(self) -> None:
        """Kill the whole group."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def reason(self) -> str:
        """Why the process failed: the error that it printed last, or the signal that ended it."""
        assert self.exit_code is not None
        if self.exit_code < 0:
            name = signal.Signals(-self.exit_code).name
            return f"ended by {name}" + ("; too little memory is the usual cause" if name == "SIGKILL" else "")
        with self.log_file.open("rb") as log:
            log.seek(self.log_start)
            lines = [line.strip() for line in log.read().decode(errors="replace").splitlines() if line.strip()]
        errors = [line for line in lines if line.startswith("error: ")]
        if errors:
            return errors[-1].removeprefix("error: ")
        raised = [line for line in lines if ERROR_TYPE.match(line)]
        return f"exit code {self.exit_code}: {(raised or lines or [NONE])[-1]}"
