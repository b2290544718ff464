"""Workspace: commands in sessions of their own, the processes that they leave behind, and the run folders that they make."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from faults import VARIABLE, Faults

import preloaded

CHILD = str(Path(__file__).with_name("child.py"))
PRELOADED = ("protoformer.commands.train", "protoformer.training.session", "forked_ranks", "light_runs", "warm_up")
ORPHAN_SECONDS = 10  # for all processes of a killed run to end


class Workspace:
    """A folder with a cache; commands are forked from a process that has their imports done."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        self.folder.mkdir(parents=True, exist_ok=True)

    def start(self, words: str | Sequence[str], outputs: str, faults: Faults) -> preloaded.Process:
        environ = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("WANDB_", "PROTOFORMER_"))},
            "PROTOFORMER_OUTPUTS": str(self.folder / outputs),
            "PROTOFORMER_CACHE": str(self.folder / "cache"),
            "OMP_NUM_THREADS": "1",
            VARIABLE: faults.to_variable(),
        }
        words = words.split() if isinstance(words, str) else words
        return preloaded.start([CHILD, *words], self.folder, environ, PRELOADED)

    def finish(self, process: preloaded.Process, outputs: str, seconds: float) -> int:
        """The exit code of a command, whose output is added to a file; one that takes too long is ended (TimeoutError)."""
        try:
            return process.wait(seconds)
        except subprocess.TimeoutExpired:
            for pid in session_members(process.pid):
                os.kill(pid, signal.SIGKILL)
            process.wait(seconds)
            raise TimeoutError(f"not ended within {seconds:.0f} s") from None
        finally:
            with (self.folder / f"{outputs}.log").open("a", encoding="utf-8") as log:
                log.writelines(process.communicate())

    def orphans(self, process: preloaded.Process) -> list[int]:
        """Processes of a command's session that are still there some seconds after it; they are ended."""
        deadline = time.monotonic() + ORPHAN_SECONDS
        while (left := session_members(process.pid)) and time.monotonic() < deadline:
            time.sleep(0.02)
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return left

    def run_folder(self, outputs: str) -> Path:
        (folder,) = {file.parent for file in (self.folder / outputs).rglob("config.yaml")}
        return folder


def session_members(session: int) -> list[int]:
    """Living processes of a session."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, IndexError):
            state, _, _, of_process = (entry / "stat").read_text().rpartition(")")[2].split()[:4]
            if state not in "ZX" and int(of_process) == session:
                found.append(int(entry.name))
    return found
