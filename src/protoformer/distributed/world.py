"""The processes of a run: how many, which one this is, and who started them."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from protoformer.errors import ConfigurationError


@dataclass(frozen=True)
class World:
    """How this process takes part: `alone`, as a `rank` that somebody else started, or as the `parent` of local ranks."""

    role: Literal["alone", "rank", "parent"]
    local_ranks: int = 1
    nodes: int = 1


def world(hardware: Mapping[str, Any], environ: Mapping[str, str]) -> World:
    """Only a world of several processes counts as already launched: WORLD_SIZE over 1 (torchrun), or an srun step of
    several tasks. sbatch, `srun --pty` and launchers of one task a node also set SLURM_PROCID=0, and there the ranks of
    this node are still to be started."""
    if int(environ.get("WORLD_SIZE", "1")) > 1 and "RANK" in environ:
        return World("rank", int(environ.get("LOCAL_WORLD_SIZE", "1")))
    per_node = _devices(hardware)
    tasks = int(environ.get("SLURM_STEP_NUM_TASKS", "1"))
    step_nodes = int(environ.get("SLURM_STEP_NUM_NODES", "1"))
    if tasks > 1 and not (step_nodes == tasks and per_node > 1):
        return World("rank", max(1, tasks // step_nodes), step_nodes)
    nodes = int(hardware["nodes"])
    if nodes > 1 and not hardware["rendezvous"]:
        raise ConfigurationError("hardware.nodes over 1 needs hardware.rendezvous=HOST:PORT, the first node's address")
    return World("parent" if per_node * nodes > 1 else "alone", per_node, nodes)


def _devices(hardware: Mapping[str, Any]) -> int:
    if hardware["devices"] != "all":
        return int(hardware["devices"])
    if hardware["accelerator"] == "cpu":
        return len(os.sched_getaffinity(0))
    import torch

    return max(1, torch.cuda.device_count())


def rank() -> int:
    """This process's rank; 0 where there is one process."""
    return int(os.environ.get("RANK", "0"))


def world_size() -> int:
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_main() -> bool:
    return rank() == 0


def _adopt_slurm(plan: World) -> None:
    """An srun step speaks SLURM; the rest of the program speaks torch."""
    if "RANK" in os.environ:
        return
    first = first_host(os.environ.get("SLURM_STEP_NODELIST", "127.0.0.1"))
    os.environ.setdefault("MASTER_ADDR", first if plan.nodes > 1 else "127.0.0.1")
    os.environ.setdefault("MASTER_PORT", str(20000 + int(os.environ.get("SLURM_JOB_ID", "0")) % 20000))
    os.environ["RANK"] = os.environ["SLURM_PROCID"]
    os.environ["WORLD_SIZE"] = os.environ["SLURM_STEP_NUM_TASKS"]
    os.environ["LOCAL_RANK"] = os.environ.get("SLURM_LOCALID", "0")
    os.environ["LOCAL_WORLD_SIZE"] = str(plan.local_ranks)
    os.environ.setdefault("TORCHELASTIC_RUN_ID", os.environ.get("SLURM_JOB_ID", "srun"))


def first_host(nodes: str) -> str:
    """Of SLURM's compressed list: `gpu-node-[01-04],x` -> `gpu-node-01`."""
    found = re.match(r"([^,\[]+)(?:\[(\w+))?", nodes)
    return "".join(part or "" for part in found.groups()) if found else nodes
