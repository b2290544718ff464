"""Trials of a pool that are forked from its process, whose imports are done, in place of fresh interpreters.

The pool's memory is estimated in its own process. `test_pool` and `test_sweep` also start trials as users do.
"""

import json
import os
import sys
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path

from protoformer.commands import train
from protoformer.planning.trial_memory import trial_memory
from protoformer.pool import process, survey


class ForkedTrial:
    """With what a pool needs of `subprocess.Popen`."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def wait(self) -> int:
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def _start(words: Sequence[str], log_file: Path, environ: Mapping[str, str]) -> ForkedTrial:
    pid = os.fork()
    if pid:
        return ForkedTrial(pid)
    code = 1
    try:
        os.setsid()
        log = os.open(log_file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        for descriptor in (1, 2):
            os.dup2(log, descriptor)
        os.environ.clear()
        os.environ.update(environ)
        code = train.main(list(words), "python train.py")
    except BaseException:  # of any kind: nothing of the pool's own stack may run in this process
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _estimates_of(configs: str) -> str:
    return json.dumps({"gpus": [], "trials": [trial_memory(config, False) for config in json.loads(configs)]})


if __name__ == "forked_trials":  # the server of `preloaded` was told to import it
    process.start = _start  # type: ignore[assignment]
    survey.estimates_of = _estimates_of
