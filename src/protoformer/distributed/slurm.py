"""SLURM: whether the tasks of a job fit a hardware config, where they meet, and the request to start the job again."""

import contextlib
import logging
import os
import re
import signal
import subprocess
from collections.abc import Iterator, Mapping
from typing import Any

from protoformer.distributed import signals
from protoformer.errors import ConfigurationError, InterruptedRunError

log = logging.getLogger(__name__)
PATIENCE = 30  # seconds for scontrol


def first_host(nodes: str) -> str:
    """The first host of SLURM's compressed list: `gpu-node-[01-04],x` -> `gpu-node-01`."""
    match = re.match(r"([^,\[]+)(?:\[(\w+))?", nodes)
    return "".join(part or "" for part in match.groups()) if match else nodes


def port(environ: Mapping[str, str]) -> int:
    """A port that all tasks of a SLURM job derive alike."""
    return 20000 + int(environ.get("SLURM_JOB_ID", "0")) % 20000


def check_job(hardware: Mapping[str, Any], environ: Mapping[str, str]) -> None:
    """Raises ConfigurationError where a job that is to be requeued is none, or has tasks that nobody started."""
    if not hardware.get("requeue"):
        return
    if "SLURM_JOB_ID" not in environ:
        raise ConfigurationError(
            "hardware=slurm (hardware.requeue=true) belongs to a SLURM job, and SLURM_JOB_ID is not set; submit a script that "
            "calls srun (docs/clusters.md), or choose hardware=ddp here"
        )
    tasks = int(environ.get("SLURM_NTASKS", "1"))
    if tasks > 1 and "SLURM_STEP_ID" not in environ:
        raise ConfigurationError(
            f"SLURM_NTASKS={tasks}, and this process was not started as one of them; write `srun python train.py ...` in the "
            "script, or ask for one task (#SBATCH --ntasks=1)"
        )


def check_tasks(hardware: Mapping[str, Any], tasks: int, nodes: int, environ: Mapping[str, str]) -> None:
    """Raises ConfigurationError where the tasks of an srun step are not one for each device of its nodes."""
    if tasks % nodes:
        raise ConfigurationError(
            f"srun started {tasks} tasks on {nodes} nodes; as many on each are needed (#SBATCH --ntasks-per-node)"
        )
    cards = environ.get("SLURM_GPUS_ON_NODE", "")
    if hardware["devices"] == "all" and hardware["accelerator"] != "cpu" and cards.isdecimal():
        local = tasks // nodes
        if 0 < int(cards) != local:
            raise ConfigurationError(
                f"srun started {local} tasks on each node, where the job has {cards} GPUs (SLURM_GPUS_ON_NODE); "
                f"#SBATCH --ntasks-per-node={cards}, or one task a node, which starts the others, or hardware.devices={local}"
            )


@contextlib.contextmanager
def requeued(hardware: Mapping[str, Any]) -> Iterator[None]:
    """Within the block a run that USR1 stops (the job's time is nearly up) has SLURM start the job again, when it has saved.

    With `hardware.requeue`, by the first task of a job.
    """
    if not hardware.get("requeue") or os.environ.get("SLURM_PROCID", "0") != "0":
        yield
        return
    with signals.listen(), signals.cleaned_up_by(_requeue):  # also where the process ends without unwinding
        try:
            yield
        except InterruptedRunError:
            _requeue()
            raise


def _requeue() -> None:
    if signals.received() != signal.SIGUSR1:
        return
    job = os.environ.get("SLURM_JOB_ID", "")
    if "SLURM_ARRAY_JOB_ID" in os.environ:
        job = f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    try:
        subprocess.run(
            ["scontrol", "requeue", job],
            check=True,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.SubprocessError) as error:
        said = (getattr(error, "stderr", None) or str(error)).strip()
        log.warning("scontrol requeue %s failed (%s): submit the job again, it continues", job, said)
