"""Commands: `python train.py` in a folder of its own, as a real process with nobody's keys and caches, or in this process."""

import contextlib
import io
import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

from protoformer import processes
from protoformer.commands import train
from protoformer.runs.metrics import read_metrics

from .. import preloaded
from ..forked_ranks import forked_ranks

Process = preloaded.Process | subprocess.Popen[str]
ROOT = Path(__file__).parents[2]
TRAIN = (sys.executable, str(ROOT / "train.py"))
PRELOADED = (
    *("protoformer.commands.train", "protoformer.training.session"),
    *("forked_ranks", "forked_trials", "light_runs", "warm_up"),
)
SECONDS = 240  # no command here may take longer, unless a test says so
MARK = "PROTOFORMER_TEST_MARK"
SMALL = (
    "model=bert_l2_h128",
    "model.d_model=32",
    "model.d_ff=64",
    "task=glue/mrpc",
    "source=sample",
    "source.rows=240",
    "init_from=scratch",
    "tracking=none",
    "recipe.batch_size=8",
    "recipe.lr=1e-3",
    "hardware.threads=1",
    "hardware.grace=20",
)


class Workspace:
    """A folder to run commands in; every process that they start can be found by a mark in its environment."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.mark = secrets.token_hex(8)

    def start(
        self,
        *overrides: str,
        outputs: str = "outputs",
        environ: Mapping[str, str] | None = None,
        command: Sequence[str] = (),
        script: str = TRAIN[1],
    ) -> Process:
        """A forked `train.py` (or another `script`) that has its imports done, and forks its ranks and trials; or any command
        in a fresh process, such as TRAIN."""
        paths = {"PROTOFORMER_OUTPUTS": outputs, "PROTOFORMER_CACHE": "cache"}
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "WANDB_", "PROTOFORMER_"))}
        environ = {**clean, **paths, MARK: self.mark, "OMP_NUM_THREADS": "1", **(environ or {})}
        if not command:
            return preloaded.start([script, *overrides], self.folder, environ, PRELOADED)
        return subprocess.Popen(
            [*command, *overrides],
            cwd=self.folder,
            env=environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
            preexec_fn=default_signals,
        )

    def run(
        self,
        *overrides: str,
        outputs: str = "outputs",
        seconds: float = SECONDS,
        command: Sequence[str] = (),
        script: str = TRAIN[1],
    ) -> subprocess.CompletedProcess[str]:
        process = self.start(*overrides, outputs=outputs, command=command, script=script)
        return finished(process, seconds)

    def run_here(self, *overrides: str, outputs: str = "outputs") -> subprocess.CompletedProcess[str]:
        """The same in this process, which holds the shapes of models to what is declared."""
        out, err = io.StringIO(), io.StringIO()
        environ = {"PROTOFORMER_OUTPUTS": str(self.folder / outputs), "PROTOFORMER_CACHE": str(self.folder / "cache")}
        streams = contextlib.redirect_stdout(out), contextlib.redirect_stderr(err)
        with mock.patch.dict(os.environ, environ), streams[0], streams[1], forked_ranks():
            code = train.main(overrides)
        return subprocess.CompletedProcess(overrides, code, out.getvalue(), err.getvalue())

    def runs(self, outputs: str = "outputs") -> list[Path]:
        """Run folders, in order of their names."""
        # not rglob: folders under way, which are renamed meanwhile, are no error
        return sorted(Path(folder) for folder, _, files in os.walk(self.folder / outputs) if "config.yaml" in files)

    def owners(self, outputs: str = "outputs") -> dict[int, str]:
        """Processes that hold the lock of a run or of a trial: their ids and names (see `protoformer.processes`)."""
        found = {}
        locks = [Path(folder) / "lock" for folder, _, files in os.walk(self.folder / outputs) if "lock" in files]
        for file in locks:
            with contextlib.suppress(OSError, ValueError):
                owner = json.loads(file.read_text())
                if processes.lives(owner["process"]):
                    found[owner["pid"]] = owner["process"]
        return found

    def training(self, outputs: str = "outputs") -> dict[int, str]:
        """Those of runs that have a checkpoint."""
        runs = [run for run in self.runs(outputs) if (run / "checkpoints" / "last.ckpt").exists()]
        owned = {pid for run in runs for pid in self.owners(str(run.relative_to(self.folder)))}
        return {pid: name for pid, name in self.owners(outputs).items() if pid in owned}

    def left_behind(self) -> list[int]:
        """Processes that carry the mark and still live some seconds after they were told to end."""
        deadline = time.monotonic() + 5
        while (pids := self.processes()) and time.monotonic() < deadline:
            time.sleep(0.02)
        return pids

    def ranks(self) -> list[int]:
        """Living ranks, which name themselves in a folder of their parent; of commands in fresh processes alone."""
        named = Path(tempfile.gettempdir()).glob("protoformer-ranks-*/pid-*")
        return sorted({int(file.name.removeprefix("pid-")) for file in named} & {*self.processes()})

    def processes(self) -> list[int]:
        """Processes that carry the mark in the environment that they were started with: forked ones do not."""
        entry = f"{MARK}={self.mark}".encode()
        pids = []
        for process_folder in Path("/proc").glob("[0-9]*"):
            try:
                state = (process_folder / "stat").read_text().rpartition(")")[2].split()[0]
                if entry in (process_folder / "environ").read_bytes().split(b"\0") and state != "Z":
                    pids.append(int(process_folder.name))
            except OSError:
                continue
        return pids


def default_signals() -> None:
    """In a new process: it takes Ctrl-C also where these tests are a background job, whose processes ignore it."""
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_DFL)


def finished(process: Process, seconds: float = SECONDS) -> subprocess.CompletedProcess[str]:
    """Wait for a command; one that takes too long is ended, and what it said is shown."""
    try:
        out, err = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        out, err = process.communicate()
        raise AssertionError(f"took over {seconds} s\n{out}\n{err}") from None
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def until_ended(names: Mapping[int, str]) -> None:
    """Wait for processes that were told to end, by their names."""
    deadline = time.monotonic() + 10
    while any(processes.lives(name) for name in names.values()):
        assert time.monotonic() < deadline, f"still alive: {names}"
        time.sleep(0.01)


def wait_for(met: Callable[[], bool], process: Process) -> None:
    """Until a condition holds, while the process lives."""
    for _ in range(SECONDS * 50):
        if met():
            return
        if process.poll() is not None:
            out, err = process.communicate()
            raise AssertionError(f"the command ended ({process.returncode}) too early:\n{out}\n{err}")
        time.sleep(0.02)
    raise AssertionError(f"not met in {SECONDS} s")


def error_line(completed: subprocess.CompletedProcess[str]) -> str:
    """The one line of an error."""
    lines = [line for line in completed.stderr.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("error: ")]
    assert len(errors) == 1, completed.stderr
    assert "Traceback" not in completed.stderr
    return errors[0]


def curve(run: Path) -> list[dict[str, Any]]:
    """metrics.jsonl without what depends on the clock."""
    speeds = ("examples_per_s", "tokens_per_s", "flops_per_s", "mfu", "data_wait")
    timed = ("time", *(f"train/{name}" for name in speeds))
    return [{k: v for k, v in line.items() if k not in timed} for line in read_metrics(run / "metrics.jsonl")]


def result(run: Path) -> dict[str, Any]:
    return json.loads((run / "result.json").read_text(encoding="utf-8"))


def predictions(run: Path) -> dict[str, str]:
    return {file.name: file.read_text(encoding="utf-8") for file in sorted((run / "predictions").iterdir())}
