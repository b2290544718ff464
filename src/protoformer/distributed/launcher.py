"""Launcher: starts the ranks of a run.

Lightning never re-runs the command. The command composes its config once; then, unless another launcher has already started one
process a rank, it becomes their parent process. Each rank calls the same importable function with the plain config. Works the
same under --multirun: every trial has a process group of its own and leaves nothing behind.
"""

import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from protoformer.distributed.world import set_torch_environment, world


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
    # not at the top: it imports torch, which a finished run of one process answers without
    from protoformer.distributed.parent import ParentProcess

    with tempfile.TemporaryDirectory(prefix="protoformer-ranks-") as folder:
        return ParentProcess(process, hardware, Path(folder)).run(function, (config, *arguments))
