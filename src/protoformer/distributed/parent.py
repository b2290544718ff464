"""Parent process of a machine's ranks: starts them by torch's elastic launcher, forwards signals, collects results or errors.

Parent and ranks share a temporary folder: each rank writes `pid-<pid>` when it can take signals, and `result-<rank>` or
`error-<rank>` when it ends; the parent writes `stop` when the run is to stop.
"""

import contextlib
import json
import logging
import multiprocessing
import os
import pickle
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from protoformer import errors
from protoformer.distributed import signals
from protoformer.distributed.children import deaf_children
from protoformer.distributed.devices import check_devices
from protoformer.distributed.rank_process import run_rank
from protoformer.distributed.signals import STOP_SIGNALS, StopRequest
from protoformer.distributed.world import World, rendezvous
from protoformer.errors import HungRankError, InterruptedRunError, LostRankError, UserError


class ParentProcess:
    """The process that starts the local ranks, forwards signals to them, and collects their results or errors."""

    def __init__(self, process: World, hardware: Mapping[str, Any], folder: Path, stop: StopRequest) -> None:
        self.process, self.hardware, self.folder, self.stop = process, hardware, folder, stop
        self.signals_received: list[int] = []
        self.ranks_ended = threading.Event()
        self.has_killed = False  # ranks that did not end in time

    def run(self, function: Callable[..., object], arguments: tuple[object, ...]) -> Any:
        for name in ("torch.distributed.elastic", "torch.distributed.launcher", "torch.multiprocessing"):
            logging.getLogger(name).setLevel(logging.CRITICAL)  # failures of ranks are reported here, once
        self.stop.check()
        check_devices(self.hardware, self.process.local_ranks)
        # signals are blocked in this thread: ranks start with them blocked and lose none; the watching thread takes them here
        with deaf_children(), self.stop.forwarded_to(self._forward), _temporary_files_in(self.folder):
            start_ranks = elastic_launch(self._launch_config(), run_rank)
            own = (os.getpid(), self.process.local_ranks, list(sys.path))
            try:
                ranks = start_ranks(function, arguments, str(self.folder), *own)
            except ChildFailedError as failure:
                raise self._error(*failure.get_first_failure()) from None
            finally:
                self.ranks_ended.set()
        # of the lowest rank: rank 0 may be on another machine. A rank of this run has written it, as into a pipe
        return pickle.loads(Path(self.folder, f"result-{min(ranks)}").read_bytes())

    def _launch_config(self) -> LaunchConfig:
        nodes = self.process.nodes
        # port 0: the store takes a free one; chosen here, another process could take it first, and the ranks would meet there
        endpoint = str(rendezvous(self.hardware, os.environ)) if nodes > 1 else "127.0.0.1:0"
        return LaunchConfig(
            min_nodes=nodes,
            max_nodes=nodes,
            nproc_per_node=self.process.local_ranks,
            run_id=os.environ.get("SLURM_JOB_ID", f"protoformer-{endpoint if nodes > 1 else os.getpid()}"),
            rdzv_backend="c10d",
            rdzv_endpoint=endpoint,
            max_restarts=0,
            start_method="spawn",
            # without an address torch looks up this machine's name, which need not resolve
            local_addr="127.0.0.1" if nodes == 1 else None,
            signals_to_handle="",  # none: they are forwarded here, so that the ranks can save
        )

    def _forward(self, signal_number: int) -> None:
        """Forward a signal to the ranks, SIGINT as TERM, since they ignore a terminal's Ctrl-C. Called in the watching thread.

        Another thread sends, because ranks that are only starting take signals later. After `hardware.grace` seconds it kills
        the ranks that have not ended; where none has begun after PATIENCE seconds (the machines have not met) it ends this
        process.
        """
        self.signals_received.append(signal_number)
        if len(self.signals_received) == 1:
            Path(self.folder, "stop").touch()
            threading.Thread(target=self._send_until_ended, daemon=True).start()

    def _send_until_ended(self) -> None:
        started_at = time.monotonic()
        sent: dict[int, int] = {}  # pid -> number of signals
        while not self.ranks_ended.is_set():
            waited = time.monotonic() - started_at
            if not sent and waited > signals.PATIENCE and not self._pids():
                self._end_with_starting_ranks()
            if waited > float(self.hardware["grace"]):
                self.has_killed = True
                for pid in self._pids():
                    _send(pid, signal.SIGKILL)
                return
            for pid in self._pids():
                for number in self.signals_received[sent.get(pid, 0) :]:
                    _send(pid, self._forwarded(number))
                    sent[pid] = sent.get(pid, 0) + 1
            self.ranks_ended.wait(0.1)

    def _end_with_starting_ranks(self) -> None:
        """End this process, and the ranks that it has started and that cannot take signals yet."""
        report = self.stop.report

        def report_and_kill(error: UserError) -> None:
            report(error)  # first: the main thread would take a killed rank for a lost one
            for rank in multiprocessing.active_children():
                rank.kill()

        self.stop.report = report_and_kill
        self.stop.end_process()

    @staticmethod
    def _forwarded(signal_number: int) -> int:
        """The signal that ranks take for this one: any that is not ignored, as by nohup, in place of a terminal's Ctrl-C."""
        if signal_number != signal.SIGINT:
            return signal_number
        return next(
            (n for n in STOP_SIGNALS if n != signal.SIGINT and signal.getsignal(n) != signal.SIG_IGN), signal.SIGKILL
        )

    def _pids(self) -> list[int]:
        return [int(file.name.removeprefix("pid-")) for file in self.folder.glob("pid-*")]

    def _error(self, rank: int, failure: ProcessFailure) -> Exception:
        """The error that ended the run: the request to stop, a rank's own error (the earliest), or the loss of a rank.

        When one rank is gone the launcher stops the others, so their InterruptedRunErrors count only if this process was
        asked to stop.
        """
        files = sorted(self.folder.glob("error-*"), key=lambda file: file.stat().st_mtime_ns)
        reports = [json.loads(file.read_text(encoding="utf-8")) for file in files]
        if hung := [report for report in reports if report["type"] == HungRankError.__name__]:
            return _error_of(hung[0])  # it has killed those that it waited for
        interrupted = [report for report in reports if report["type"] == InterruptedRunError.__name__]
        failed = [report for report in reports if report not in interrupted]
        # a signal to the whole process group also ends ranks that are only starting and have no handler yet
        ended_without_report = -failure.exitcode in STOP_SIGNALS or (
            not reports and failure.exitcode != -signal.SIGKILL
        )
        if self.signals_received and (interrupted or ended_without_report or self.has_killed):
            error = self.stop.grant()
            if interrupted:
                error.args = (interrupted[0]["message"],)
            elif self.has_killed:
                seconds = f"hardware.grace={self.hardware['grace']} seconds"
                error.args = (f"stopped unsaved, after {seconds}; the same command continues from the last checkpoint",)
            return error
        if failure.exitcode < 0 and not (self.folder / f"error-{rank}").exists():
            name = signal.Signals(-failure.exitcode).name
            cause = "; too little memory is the usual cause" if name == "SIGKILL" else ""
            return LostRankError(f"rank {rank} was ended by {name}{cause}. The same command continues the run")
        if failed:
            return _error_of(failed[0])
        if interrupted:  # a rank alone was asked to stop
            return InterruptedRunError(interrupted[0]["message"])
        return RuntimeError(f"rank {rank} ended with exit code {failure.exitcode} and without an error message")


def _error_of(report: Mapping[str, Any]) -> Exception:
    """A rank's error from its report: a UserError of the same type, an OSError of a file, else a RuntimeError with its
    traceback."""
    if "os_error" in report:
        return OSError(*report["os_error"])
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
