"""Process of one rank, started by the parent process: its signals, its part of the CPU cores, the report of its error."""

import json
import os
import pickle
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import torch

from protoformer.atomic import write_unsynced
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
) -> None:
    """The main function of a started process: takes its part of the CPU cores, writes its result or its error into `folder`,
    and ends with its parent. It starts with STOP_SIGNALS blocked.

    Nothing of either goes through torch's pipe and file: of a rank that is killed while it writes there, the parent would wait
    for the rest or fail to read it.
    """
    sys.path[:] = path
    end_with_parent(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends Ctrl-C to all processes: the parent decides
    with signals.listen(afterwards=lambda: _end_unless_awaited(Path(folder))) as stop:
        stop.report = lambda error: _report(folder, error)
        stop.is_meant = Path(folder, "stop").exists  # else torch ends this rank, because another one was lost
        try:
            Path(folder, f"pid-{os.getpid()}").touch()
        except FileNotFoundError:  # the parent was stopped, and is ending
            os._exit(1)
        signals.unblock()
        torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // local_ranks))
        try:
            result = pickle.dumps(function(*arguments))
            write_unsynced(Path(folder, f"result-{rank()}"), result)
        except BaseException as error:  # also SystemExit: the parent process reports it
            _report(folder, error)
            sys.exit(1)


def _end_unless_awaited(folder: Path) -> None:
    """End a rank that has returned where torch ends all, because another one was lost.

    Otherwise it waits until all have returned: if a signal ended it there, torch would wait for it without end.
    """
    if (folder / "stop").exists():
        return
    try:
        for file in folder.glob("pid-*"):
            os.kill(int(file.name.removeprefix("pid-")), 0)  # sends nothing
    except ProcessLookupError:
        os._exit(1)


def _report(folder: str, error: BaseException) -> None:
    report = {
        "rank": rank(),
        "type": type(error).__name__,
        "message": str(error),
        "traceback": "".join(traceback.format_exception(error)),
    }
    if isinstance(error, OSError) and error.filename is not None:  # of a file: the parent raises it again
        report["os_error"] = [error.errno, error.strerror, str(error.filename)]
    try:
        write_unsynced(Path(folder, f"error-{rank()}"), json.dumps(report).encode())
    except FileNotFoundError:  # the parent was stopped, and is ending
        return
    except OSError:
        print(report["traceback"], file=sys.stderr, flush=True)  # nobody else can
