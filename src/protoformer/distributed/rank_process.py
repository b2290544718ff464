"""Process of one rank, started by the parent process: its signals, its part of the CPU cores, the report of its error."""

import ctypes
import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from protoformer.distributed.signals import StopRequest
from protoformer.distributed.world import rank

PR_SET_PDEATHSIG = 1  # of Linux's prctl: a signal to this process when its parent ends


def run_rank(
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
    torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // local_ranks))
    try:
        return function(*arguments)
    except BaseException as error:  # also SystemExit: the parent process reports it
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
