"""Before a pool starts: the machine's devices, and whether its memory holds as many trials side by side.

torch is asked in a short-lived process, so that the pool's own process stays small and opens no card.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from protoformer.distributed import signals
from protoformer.distributed.children import PARENT_VARIABLE
from protoformer.errors import ConfigurationError, UserError
from protoformer.pool.machine import Gpu, Machine, available_memory, cores, gpu_entries
from protoformer.pool.slots import Slots

MODULE = "protoformer.planning.trial_memory"
GIB = 2**30
USABLE = 0.85  # of a card's memory, as for `hardware.micro_batch`
KEYS = {  # of a config: what decides the memory of a trial
    "task": ("max_len", "kind", "splits"),
    "recipe": ("batch_size", "batching", "optimizer", "momentum", "freeze", "ema"),
    "hardware": (
        "accelerator", "devices", "precision", "micro_batch", "checkpoint_activations", "fully_shard",
    ),
}  # fmt: skip


@dataclass(frozen=True)
class TrialMemory:
    """Bytes that a trial takes by estimate: of the host, and of one card where it runs on GPUs."""

    host: int
    card: int


@dataclass(frozen=True)
class Survey:
    """The machine, and the memory of each trial; None for one that cannot be built, whose own process says why."""

    machine: Machine
    trials: list[TrialMemory | None]


def survey(configs: Sequence[Mapping[str, Any]]) -> Survey:
    """Look at the machine and estimate each trial; those that differ in nothing that decides it are estimated once."""
    keys = [_deciding(config) for config in configs]
    distinct = dict(zip(keys, configs, strict=True))
    answer = json.loads(estimates_of(json.dumps(list(distinct.values()))))
    entries = gpu_entries(len(answer["gpus"]), os.environ)
    gpus = [Gpu(entry, name, memory) for entry, (name, memory) in zip(entries, answer["gpus"], strict=True)]
    estimates = [None if each is None else TrialMemory(*each) for each in answer["trials"]]
    by_key = dict(zip(distinct, estimates, strict=True))
    here = Machine(cores(), available_memory(), tuple(gpus))
    return Survey(here, [by_key[key] for key in keys])


def estimates_of(configs: str) -> str:
    """What the process that imports torch answers: cards, and bytes of each trial."""
    process = subprocess.run(
        [sys.executable, "-m", MODULE],
        input=configs,
        capture_output=True,
        text=True,
        env={**os.environ, PARENT_VARIABLE: str(os.getpid())},
        start_new_session=True,
    )
    signals.check()
    if process.returncode:
        last = [line for line in process.stderr.splitlines() if line.strip()][-1:] or ["it said nothing"]
        raise UserError(f"the estimate of a trial's memory failed with exit code {process.returncode}: {last[0]}")
    return process.stdout


def check_memory(
    slots: Slots,
    trials: Sequence[TrialMemory | None],
    count: int,
    needed: int,
    machine: Machine,
    key: str = "hardware.pool",
) -> None:
    """Raise ConfigurationError where the slots hold more trials side by side than memory does.

    `count` trials are to run, each on `needed` slots; `key` set the number of slots.
    """
    known = [each for each in trials if each is not None]
    if not known or not slots.is_pinned:
        return
    card = max(each.card for each in known)
    for gpu in (gpu for gpu in machine.gpus if gpu.entry in [slot.gpu for slot in slots.all]):
        if card > USABLE * gpu.memory:
            raise ConfigurationError(
                f"{key}={len(slots)}: a trial takes {card / GIB:.1f} GiB of its card with a single row at once, and {gpu.name} "
                f"has {gpu.memory / GIB:.1f} GiB; a smaller model or task.max_len, or hardware.precision=bf16, takes less"
            )
    host = max(each.host for each in known)
    together = min(len(slots) // needed, count)
    if machine.memory is None or together * host <= machine.memory:
        return
    most = machine.memory // host
    advice = "one trial alone does not fit; a smaller hardware.micro_batch or model takes less"
    if most:
        advice = f"the largest pool that fits is {key}={most * needed}"
    raise ConfigurationError(
        f"{key}={len(slots)}: {together} trials side by side take {together * host / GIB:.1f} GiB of memory "
        f"({host / GIB:.1f} GiB each by estimate), and {machine.memory / GIB:.1f} GiB are available; {advice}"
    )


def _deciding(config: Mapping[str, Any]) -> str:
    parts = {node: {key: config[node].get(key) for key in keys} for node, keys in KEYS.items()}
    return json.dumps([config["model"], config["init_from"], parts], sort_keys=True, default=str)
