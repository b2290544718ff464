"""Process of one rank, started by the parent process: its signals, its part of the CPU cores, the report of its error."""

import json
import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from protoformer.distributed import signals
from protoformer.distributed.children import end_with_parent
from protoformer.distributed.world import rank


def run_rank(
    function: Callable[..., object],
    arguments: tuple[object, ...],
    folder: str,
    parent: int,
    local_ranks: int,
    path: list[str],
) -> Any:
    """The main function of a started process: takes its part of the CPU cores, reports its error in `folder`, and ends with
    its parent. It starts with STOP_SIGNALS blocked."""
    sys.path[:] = path
    end_with_parent(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends Ctrl-C to all processes: the parent decides
    # a rank that has returned waits until torch has read the results of all; ended there by a signal, torch would wait for it
    with signals.listen(ignored_afterwards=True) as stop:
        stop.report = lambda error: _report(folder, error)
        stop.is_meant = Path(folder, "stop").exists  # else torch ends this rank, because another one was lost
        try:
            Path(folder, f"pid-{os.getpid()}").touch()
        except FileNotFoundError:  # the parent was stopped, and is ending
            os._exit(1)
        signals.unblock()
        torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // local_ranks))
        try:
            return function(*arguments)
        except BaseException as error:  # also SystemExit: the parent process reports it
            _report(folder, error)
            raise


def _report(folder: str, error: BaseException) -> None:
    report = {
        "rank": rank(),
        "type": type(error).__name__,
        "message": str(error),
        "traceback": "".join(traceback.format_exception(error)),
    }
    if isinstance(error, OSError) and error.filename is not None:  # of a file: the parent raises it again
        report["os_error"] = [error.errno, error.strerror, str(error.filename)]
    Path(folder, f"error-{rank()}").write_text(json.dumps(report), encoding="utf-8")
