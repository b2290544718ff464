"""Child processes whose life ends with the run: ranks, and the processes that load data.

`data.batching.loader` starts a forkserver that imports this module's neighbour `forkserver`; its workers call
`end_with_run`. torch's own watchdog looks at a worker's parent, which is the forkserver and not the rank.
"""

import contextlib
import ctypes
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Iterator
from multiprocessing import resource_tracker
from typing import Any

from protoformer.distributed import signals

PARENT_VARIABLE = "PROTOFORMER_PARENT"  # the pid of a process that a run ends with
PR_SET_PDEATHSIG = 1  # of Linux's prctl: a signal to this process when its parent ends


@contextlib.contextmanager
def deaf_children() -> Iterator[None]:
    """Processes that are started within the block have STOP_SIGNALS blocked, until they unblock them."""
    with signals.blocked():
        with _quiet_tracker():
            resource_tracker.ensure_running()  # unblocks some of them in this thread when it starts its process
        with signals.blocked():
            yield


@contextlib.contextmanager
def _quiet_tracker() -> Iterator[None]:
    """A tracker that is started within the block removes what a killed run has left without a warning behind the run's own
    last line."""
    before = os.environ.get("PYTHONWARNINGS")
    os.environ["PYTHONWARNINGS"] = ",".join(filter(None, (before, "ignore:resource_tracker:UserWarning")))
    try:
        yield
    finally:
        del os.environ["PYTHONWARNINGS"]
        if before is not None:
            os.environ["PYTHONWARNINGS"] = before


def end_with_parent(parent: int) -> None:
    """End this process when its parent, of pid `parent`, does: by the kernel on Linux, elsewhere by a thread."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    else:
        threading.Thread(target=_watch_parent, args=(parent,), daemon=True).start()
    if os.getppid() != parent:  # it ended before the call
        os._exit(1)


def end_with_named_parent() -> None:
    """End this process when the one that PROTOFORMER_PARENT names does, if that started it (a sweep's worker)."""
    parent = os.environ.pop(PARENT_VARIABLE, "")
    if parent.isdecimal():
        end_with_parent(int(parent))


def end_with_run(rank_pid: int) -> None:
    """End this process, a child of the forkserver, when the forkserver or the process `rank_pid` ends, or when that process
    sends it TERM. It was started with STOP_SIGNALS blocked, and takes them from nobody else."""
    end_with_parent(os.getppid())
    threading.Thread(target=_watch_process, args=(rank_pid,), daemon=True).start()
    sys.excepthook = _report_unless_ending
    if hasattr(signal, "sigwaitinfo"):
        threading.Thread(target=_obey, args=(rank_pid,), daemon=True).start()
    else:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])


def _report_unless_ending(*error: Any) -> None:
    """Print a traceback, but not of a connection that broke because the process at its other end was killed: this process
    learns of that a little later, and ends."""
    time.sleep(1.0)
    sys.__excepthook__(*error)


def _obey(rank_pid: int) -> None:
    while signal.sigwaitinfo([signal.SIGTERM]).si_pid != rank_pid:
        pass
    os._exit(1)


def _watch_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)


def _watch_process(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        if hasattr(os, "pidfd_open"):
            with contextlib.suppress(OSError):
                select.select([os.pidfd_open(pid)], [], [])
                os._exit(1)
        while True:
            os.kill(pid, 0)
            time.sleep(1.0)
    os._exit(1)
