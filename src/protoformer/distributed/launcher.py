"""Starting the ranks of a run.

Lightning never re-runs the command. The command composes once; then, unless an outer launcher has already started one
process a rank, this module starts them through torch's elastic launcher, each running the same importable function on
the plain config. Works the same under --multirun: every trial has a process group of its own and leaves nothing behind.
"""

import contextlib
import json
import os
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from protoformer import errors
from protoformer.distributed.signals import Stop, stopped
from protoformer.distributed.world import World, _adopt_slurm, rank, world
from protoformer.errors import InterruptedRunError, LostRankError, UserError

if TYPE_CHECKING:
    from torch.distributed.elastic.multiprocessing.errors import ProcessFailure

FORWARDED = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT, signal.SIGHUP)


def launch(function: Callable[..., Any], config: Mapping[str, Any], *arguments: Any) -> Any:
    """`function(config, *arguments)` on every rank; gives back what rank 0 returns.

    A UserError of a rank is raised here again, once; anything else ends in a RuntimeError with that rank's traceback.
    """
    hardware = config["hardware"]
    plan = world(hardware, os.environ)
    if plan.role == "rank":
        _adopt_slurm(plan)
    if plan.role != "parent":
        return function(config, *arguments)
    with tempfile.TemporaryDirectory(prefix="protoformer-ranks-") as place:
        return _Parent(plan, hardware, Path(place)).run(function, (config, *arguments))


class _Parent:
    """The process that starts local ranks, passes signals on, and gathers what they return or die of."""

    def __init__(self, plan: World, hardware: Mapping[str, Any], place: Path) -> None:
        self.plan, self.hardware, self.place = plan, hardware, place
        self.signalled: int | None = None
        self.ended = threading.Event()

    def run(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        import logging

        from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
        from torch.distributed.launcher.api import LaunchConfig, elastic_launch

        for chatter in ("torch.distributed.elastic", "torch.distributed.launcher", "torch.multiprocessing"):
            logging.getLogger(chatter).setLevel(logging.CRITICAL)  # its failures are told by us, once
        usual, tempfile.tempdir = tempfile.tempdir, str(self.place)  # what torch leaves of failed ranks goes with it
        endpoint = self.hardware["rendezvous"] if self.plan.nodes > 1 else f"127.0.0.1:{_free_port()}"
        settings = LaunchConfig(
            min_nodes=self.plan.nodes,
            max_nodes=self.plan.nodes,
            nproc_per_node=self.plan.local_ranks,
            run_id=os.environ.get("SLURM_JOB_ID", f"protoformer-{endpoint if self.plan.nodes > 1 else os.getpid()}"),
            rdzv_backend="c10d",
            rdzv_endpoint=endpoint,
            max_restarts=0,
            start_method="spawn",
            signals_to_handle="SIGQUIT",  # the others are ours: they are passed on, and the ranks save
        )
        before = {number: signal.signal(number, self._forward) for number in FORWARDED}
        try:
            returned = elastic_launch(settings, _rank)(
                function, arguments, str(self.place), self.plan.local_ranks, list(sys.path)
            )
        except ChildFailedError as failure:
            raise self._told(*failure.get_first_failure()) from None
        finally:
            self.ended.set()
            tempfile.tempdir = usual
            for number, handler in before.items():
                signal.signal(number, handler)
        return returned[min(returned)]  # by rank; rank 0 may be on another machine

    def _forward(self, number: int, frame: FrameType | None) -> None:
        """Pass a signal to the ranks, also to those that are only starting; ranks know no Ctrl-C, for them it is TERM.

        After `hardware.grace` seconds without an end they are killed.
        """
        first, self.signalled = self.signalled is None, number
        passed = signal.SIGTERM if number == signal.SIGINT else number
        told: set[int] = set()

        def see_through() -> None:
            deadline = time.monotonic() + float(self.hardware["grace"])
            while not self.ended.wait(0.1):
                if time.monotonic() > deadline:
                    self._kill()
                    return
                for pid in set(self._pids()) - told:
                    told.add(pid)
                    _send(pid, passed)

        if first:
            threading.Thread(target=see_through, daemon=True).start()

    def _kill(self) -> None:
        for pid in self._pids():
            _send(pid, signal.SIGKILL)

    def _pids(self) -> list[int]:
        return [int(file.name.removeprefix("pid-")) for file in self.place.glob("pid-*")]

    def _told(self, rank: int, failure: "ProcessFailure") -> Exception:
        """What ended the run: the wish to stop, a rank's own error (the first), or somebody who killed a rank.

        When one rank is gone the launcher stops the others, so what they say of having been stopped counts only where
        this process was asked to stop.
        """
        files = sorted(self.place.glob("error-*"), key=lambda file: file.stat().st_mtime_ns)
        told = [json.loads(file.read_text(encoding="utf-8")) for file in files]
        interrupted = [error for error in told if error["kind"] == InterruptedRunError.__name__]
        others = [error for error in told if error not in interrupted]
        # a signal to the whole process group also ends ranks that are only starting and have no handler yet
        unheard = not told and failure.exitcode != -signal.SIGKILL
        if self.signalled is not None and (interrupted or unheard):
            stop = stopped(self.signalled)
            if interrupted:
                stop.args = (interrupted[0]["message"],)
            return stop
        if failure.exitcode < 0 and not (self.place / f"error-{rank}").exists():
            name = signal.Signals(-failure.exitcode).name
            cause = "; too little memory is the usual cause" if name == "SIGKILL" else ""
            return LostRankError(f"rank {rank} was ended by {name}{cause}. The same command continues the run")
        for error in others[:1]:
            kind = getattr(errors, error["kind"], None)
            if isinstance(kind, type) and issubclass(kind, UserError):
                return kind(error["message"])
            return RuntimeError(f"rank {error['rank']} failed:\n{error['traceback']}")
        return RuntimeError(f"rank {rank} ended with exit code {failure.exitcode} and without a word")


def _send(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _rank(function: Callable[..., Any], arguments: tuple[Any, ...], place: str, ranks: int, path: list[str]) -> Any:
    """What each started process runs: its share of the cores, its errors written down, its end tied to its parent's."""
    sys.path[:] = path
    _die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends Ctrl-C to all: the parent decides
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP):
        signal.signal(number, Stop().ask)
    Path(place, f"pid-{os.getpid()}").touch()
    import torch

    torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // ranks))
    try:
        return function(*arguments)
    except BaseException as error:
        import traceback

        report = {
            "rank": rank(),
            "kind": type(error).__name__,
            "message": str(error),
            "traceback": "".join(traceback.format_exception(error)),
        }
        Path(place, f"error-{rank()}").write_text(json.dumps(report), encoding="utf-8")
        raise


def _die_with_parent() -> None:
    """The kernel ends this process when its parent is gone; elsewhere than on Linux a thread looks for it."""
    parent = os.getppid()
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
        if os.getppid() != parent:
            os._exit(1)
        return

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
