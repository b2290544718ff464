"""Launcher: starts the ranks of a run.

Lightning never re-runs the command. The command composes its config once; then, unless another launcher has already started one
process a rank, this module starts them by torch's elastic launcher. Each rank calls the same importable function with the
plain config. Works the same under --multirun: every trial has a process group of its own and leaves nothing behind.

Parent and ranks share a temporary folder: each rank writes `pid-<pid>` when it can take signals, and `error-<rank>` when it
fails. torch is imported in the functions: a run of one process is launched without it.
"""

import contextlib
import ctypes
import json
import logging
import os
import signal
import socket
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from protoformer import errors
from protoformer.distributed.signals import STOP_SIGNALS, StopRequest, interrupted_error
from protoformer.distributed.world import World, rank, set_torch_environment, world
from protoformer.errors import InterruptedRunError, LostRankError, UserError

if TYPE_CHECKING:
    from torch.distributed.elastic.multiprocessing.errors import ProcessFailure
    from torch.distributed.launcher.api import LaunchConfig

PR_SET_PDEATHSIG = 1  # of Linux's prctl: a signal to this process when its parent ends


def launch(function: Callable[..., Any], config: Mapping[str, Any], *arguments: Any) -> Any:
    """Call `function(config, *arguments)` on every rank; returns what it returns on rank 0.

    A UserError of a rank is raised here, once; any other error of a rank as a RuntimeError with that rank's traceback. Raises
    InterruptedRunError when the ranks were asked to stop, LostRankError when one of them was killed.
    """
    hardware = config["hardware"]
    process = world(hardware, os.environ)
    if process.role == "rank":
        set_torch_environment(process)
    if process.role != "parent":
        return function(config, *arguments)
    with tempfile.TemporaryDirectory(prefix="protoformer-ranks-") as folder:
        return _Parent(process, hardware, Path(folder)).run(function, (config, *arguments))


class _Parent:
    """The process that starts the local ranks, forwards signals to them, and collects their results or errors."""

    def __init__(self, process: World, hardware: Mapping[str, Any], folder: Path) -> None:
        self.process, self.hardware, self.folder = process, hardware, folder
        self.signal_number: int | None = None  # the last signal that was forwarded
        self.ranks_ended = threading.Event()

    def run(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
        from torch.distributed.launcher.api import elastic_launch

        for name in ("torch.distributed.elastic", "torch.distributed.launcher", "torch.multiprocessing"):
            logging.getLogger(name).setLevel(logging.CRITICAL)  # failures of ranks are reported here, once
        with self._forward_signals(), _temporary_files_in(self.folder):
            start_ranks = elastic_launch(self._launch_config(), _run_rank)
            try:
                results = start_ranks(function, arguments, str(self.folder), self.process.local_ranks, list(sys.path))
            except ChildFailedError as failure:
                raise self._error(*failure.get_first_failure()) from None
            finally:
                self.ranks_ended.set()
        return results[min(results)]  # by rank; rank 0 may be on another machine

    def _launch_config(self) -> "LaunchConfig":
        from torch.distributed.launcher.api import LaunchConfig

        nodes = self.process.nodes
        endpoint = self.hardware["rendezvous"] if nodes > 1 else f"127.0.0.1:{_free_port()}"
        return LaunchConfig(
            min_nodes=nodes,
            max_nodes=nodes,
            nproc_per_node=self.process.local_ranks,
            run_id=os.environ.get("SLURM_JOB_ID", f"protoformer-{endpoint if nodes > 1 else os.getpid()}"),
            rdzv_backend="c10d",
            rdzv_endpoint=endpoint,
            max_restarts=0,
            start_method="spawn",
            signals_to_handle="SIGQUIT",  # the others are forwarded here, so that the ranks can save
        )

    @contextlib.contextmanager
    def _forward_signals(self) -> Iterator[None]:
        previous = {number: signal.signal(number, self._forward) for number in STOP_SIGNALS}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _forward(self, signal_number: int, frame: FrameType | None) -> None:
        """Signal handler: forward to the ranks, SIGINT as TERM, since they ignore a terminal's Ctrl-C.

        A thread forwards, because ranks that are only starting take signals later. After `hardware.grace` seconds it kills
        the ranks that have not ended.
        """
        is_first, self.signal_number = self.signal_number is None, signal_number
        forwarded = signal.SIGTERM if signal_number == signal.SIGINT else signal_number

        def forward_until_ended() -> None:
            deadline = time.monotonic() + float(self.hardware["grace"])
            signalled: set[int] = set()
            while not self.ranks_ended.wait(0.1):
                if time.monotonic() > deadline:
                    for pid in self._pids():
                        _send(pid, signal.SIGKILL)
                    return
                for pid in set(self._pids()) - signalled:
                    signalled.add(pid)
                    _send(pid, forwarded)

        if is_first:
            threading.Thread(target=forward_until_ended, daemon=True).start()

    def _pids(self) -> list[int]:
        return [int(file.name.removeprefix("pid-")) for file in self.folder.glob("pid-*")]

    def _error(self, rank: int, failure: "ProcessFailure") -> Exception:
        """The error that ended the run: the request to stop, a rank's own error (the earliest), or the loss of a rank.

        When one rank is gone the launcher stops the others, so their InterruptedRunErrors count only if this process was
        asked to stop.
        """
        files = sorted(self.folder.glob("error-*"), key=lambda file: file.stat().st_mtime_ns)
        reports = [json.loads(file.read_text(encoding="utf-8")) for file in files]
        interrupted = [report for report in reports if report["type"] == InterruptedRunError.__name__]
        failed = [report for report in reports if report not in interrupted]
        # a signal to the whole process group also ends ranks that are only starting and have no handler yet
        ended_without_report = not reports and failure.exitcode != -signal.SIGKILL
        if self.signal_number is not None and (interrupted or ended_without_report):
            error = interrupted_error(self.signal_number)
            if interrupted:
                error.args = (interrupted[0]["message"],)
            return error
        if failure.exitcode < 0 and not (self.folder / f"error-{rank}").exists():
            name = signal.Signals(-failure.exitcode).name
            cause = "; too little memory is the usual cause" if name == "SIGKILL" else ""
            return LostRankError(f"rank {rank} was ended by {name}{cause}. The same command continues the run")
        if not failed:
            return RuntimeError(f"rank {rank} ended with exit code {failure.exitcode} and without an error message")
        return _error_of(failed[0])


def _error_of(report: Mapping[str, Any]) -> Exception:
    """A rank's error from its report: a UserError of the same type, or a RuntimeError with the traceback."""
    error_type = getattr(errors, report["type"], None)
    if isinstance(error_type, type) and issubclass(error_type, UserError):
        return error_type(report["message"])
    return RuntimeError(f"rank {report['rank']} failed:\n{report['traceback']}")


@contextlib.contextmanager
def _temporary_files_in(folder: Path) -> Iterator[None]:
    """Let torch write its files of failed ranks into `folder`, which is removed at the end."""
    previous, tempfile.tempdir = tempfile.tempdir, str(folder)
    try:
        yield
    finally:
        tempfile.tempdir = previous


def _send(pid: int, signal_number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal_number)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _run_rank(
    function: Callable[..., Any], arguments: tuple[Any, ...], folder: str, local_ranks: int, path: list[str]
) -> Any:
    """The main function of a started process: takes its part of the CPU cores, reports its error in `folder`, and ends with
    its parent."""
    sys.path[:] = path
    _end_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends Ctrl-C to all processes: the parent decides
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP):
        signal.signal(number, StopRequest().handle)
    Path(folder, f"pid-{os.getpid()}").touch()
    import torch

    torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // local_ranks))
    try:
        return function(*arguments)
    except BaseException as error:
        report = {
            "rank": rank(),
            "type": type(error).__name__,
            "message": str(error),
            "traceback": "".join(traceback.format_exception(error)),
        }
        Path(folder, f"error-{rank()}").write_text(json.dumps(report), encoding="utf-8")
        raise


def _end_with_parent() -> None:
    """End this process when its parent does: by the kernel on Linux, elsewhere by a thread that looks once a second."""
    parent = os.getppid()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it ended before the call
            os._exit(1)
        return

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
