"""World: the processes of a run, which one this is, and who started them."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from protoformer.distributed import slurm
from protoformer.errors import ConfigurationError


@dataclass(frozen=True)
class World:
    """How this process takes part: `alone`, as a `rank` that another launcher started, or as the `parent` that starts the
    `local_ranks` of this machine, one of `nodes`."""

    role: Literal["alone", "rank", "parent"]
    local_ranks: int = 1
    nodes: int = 1


def world(hardware: Mapping[str, Any], environ: Mapping[str, str]) -> World:
    """This process's part, from the hardware config and the environment variables of launchers.

    Only a world of several processes counts as already launched: WORLD_SIZE over 1 (torchrun), or an srun step of several
    tasks. sbatch, `srun --pty` and launchers of one task a node also set SLURM_PROCID=0, and there the ranks of this node
    are still to be started. Raises ConfigurationError for several nodes without an address to meet at.
    """
    ranks = int(environ.get("WORLD_SIZE", "1"))
    if ranks > 1 and "RANK" in environ:
        local_ranks = int(environ.get("LOCAL_WORLD_SIZE", "1"))
        _check_counts(hardware, local_ranks, max(1, ranks // local_ranks))
        return World("rank", local_ranks, max(1, ranks // local_ranks))
    slurm.check_job(hardware, environ)
    devices = device_count(hardware)
    tasks = int(environ.get("SLURM_STEP_NUM_TASKS", "1"))
    step_nodes = int(environ.get("SLURM_STEP_NUM_NODES", "1"))
    if tasks > 1 and not (step_nodes == tasks and devices > 1):
        slurm.check_tasks(hardware, tasks, step_nodes, environ)
        _check_counts(hardware, max(1, tasks // step_nodes), step_nodes)
        return World("rank", max(1, tasks // step_nodes), step_nodes)
    if tasks == 1 and int(environ.get("SLURM_PROCID", "0")) > 0:
        raise ConfigurationError(
            f"this is task {environ['SLURM_PROCID']} of a SLURM job, and nothing says of how many (SLURM_STEP_NUM_TASKS is "
            "not set): start the tasks by srun, or one task a node (#SBATCH --ntasks-per-node=1), which starts the others"
        )
    if tasks > 1:
        _check_counts({**hardware, "devices": 1}, 1, step_nodes)
    nodes = max(int(hardware["nodes"]), step_nodes if tasks > 1 else 1)
    if nodes > 1 and rendezvous(hardware, environ) is None:
        raise ConfigurationError("hardware.nodes over 1 needs hardware.rendezvous=HOST:PORT, the first node's address")
    return World("parent" if devices * nodes > 1 else "alone", devices, nodes)


def rendezvous(hardware: Mapping[str, Any], environ: Mapping[str, str]) -> str | None:
    """Where the machines of a run meet, as host:port: what the config names, or the first machine of an srun step; None where
    neither says."""
    if hardware["rendezvous"] or not environ.get("SLURM_STEP_NODELIST"):
        return hardware["rendezvous"]
    return f"{slurm.first_host(environ['SLURM_STEP_NODELIST'])}:{slurm.port(environ)}"


def _check_counts(hardware: Mapping[str, object], local_ranks: int, nodes: int) -> None:
    """Raises ConfigurationError where the config asks for other ranks than a launcher has started. 1, the default, asks for
    none."""
    for key, started in (("devices", local_ranks), ("nodes", nodes)):
        requested = hardware[key]
        if requested not in (1, "all", started):
            where = "machines" if key == "nodes" else "processes on each machine"
            raise ConfigurationError(
                f"hardware.{key}={requested}, but the launcher (torchrun, srun) started {started} {where}; start as many, or "
                f"leave out hardware.{key}"
            )


def device_count(hardware: Mapping[str, Any]) -> int:
    """Devices of this machine that a run uses, each by one process."""
    if hardware["devices"] != "all":
        return int(hardware["devices"])
    if hardware["accelerator"] == "cpu":
        return len(os.sched_getaffinity(0))
    import torch  # slow to import, and not needed for a fixed number of devices

    return max(1, torch.cuda.device_count())


def rank() -> int:
    """This process's rank; 0 where there is one process."""
    return int(os.environ.get("RANK", "0"))


def world_size() -> int:
    """The number of ranks; 1 where there is one process."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_main() -> bool:
    """Whether this is rank 0."""
    return rank() == 0


def set_torch_environment(process: World) -> None:
    """Set torch's environment variables (RANK, WORLD_SIZE, MASTER_ADDR, ...) from SLURM's, in a rank that srun started."""
    if "RANK" in os.environ:
        return
    host = slurm.first_host(os.environ.get("SLURM_STEP_NODELIST", "127.0.0.1"))
    os.environ.setdefault("MASTER_ADDR", host if process.nodes > 1 else "127.0.0.1")
    os.environ.setdefault("MASTER_PORT", str(slurm.port(os.environ)))
    os.environ["RANK"] = os.environ["SLURM_PROCID"]
    os.environ["WORLD_SIZE"] = os.environ["SLURM_STEP_NUM_TASKS"]
    os.environ["LOCAL_RANK"] = os.environ.get("SLURM_LOCALID", "0")
    os.environ["LOCAL_WORLD_SIZE"] = str(process.local_ranks)
    os.environ.setdefault("TORCHELASTIC_RUN_ID", os.environ.get("SLURM_JOB_ID", "srun"))
