"""Launcher: starts the ranks of a run.

Lightning never re-runs the command. The command composes its config once; then, unless another launcher has already started one
process a rank, it becomes their parent process. Each rank calls the same importable function with the plain config. Works the
same under --multirun: every trial has a process group of its own and leaves nothing behind.
"""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from protoformer import processes
from protoformer.distributed import signals
from protoformer.distributed.children import end_with_parent
from protoformer.distributed.world import set_torch_environment, world

FOLDER_PREFIX = "protoformer-ranks-"


def launch(function: Callable[..., Any], config: Mapping[str, Any], *arguments: Any) -> Any:
    """Call `function(config, *arguments)` on every rank; returns what it returns on rank 0.

    A UserError of a rank is raised here, once; any other error of a rank as a RuntimeError with that rank's traceback. Raises
    InterruptedRunError when the ranks were asked to stop, LostRankError when one of them was killed.
    """
    hardware = config["hardware"]
    process = world(hardware, os.environ)
    if process.role == "rank":
        set_torch_environment(process)
        if "TORCHELASTIC_RUN_ID" in os.environ:  # a rank of torchrun is lost without it
            end_with_parent(os.getppid())
    if process.role != "parent":
        return function(config, *arguments)
    with signals.listen() as stop, _shared_folder() as folder:
        # not at the top: it imports torch, which a finished run of one process answers without
        from protoformer.distributed.parent import ParentProcess

        return ParentProcess(process, hardware, folder, stop).run(function, (config, *arguments))


@contextlib.contextmanager
def _shared_folder() -> Iterator[Path]:
    """A temporary folder that says whose it is; those of dead processes are removed."""
    for left in Path(tempfile.gettempdir()).glob(f"{FOLDER_PREFIX}*"):
        with contextlib.suppress(ValueError):
            if processes.lives(left.name.removeprefix(FOLDER_PREFIX).rpartition("-")[0]) is False:
                shutil.rmtree(left, ignore_errors=True)
    with (
        tempfile.TemporaryDirectory(prefix=f"{FOLDER_PREFIX}{processes.name()}-") as name,
        signals.cleaned_up_by(lambda: shutil.rmtree(name, ignore_errors=True)),
    ):
        yield Path(name)
