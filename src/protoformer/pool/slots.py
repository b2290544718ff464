"""Slots of a pool: devices of a machine, each with its part of the CPU cores, and which of them are free.

A slot is a GPU, or on the CPU one or more cores. A trial takes one slot for each of its devices.
"""

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from protoformer.errors import ConfigurationError
from protoformer.pool.machine import VISIBLE, Machine

THREADS = "OMP_NUM_THREADS"
Size = int | str | list[int]  # hardware.pool: a number of slots, all, or a list of devices


@dataclass(frozen=True)
class Slot:
    """A device, the cores of its processes (none: all that there are), and what CUDA_VISIBLE_DEVICES is to show of GPUs."""

    name: str
    cores: tuple[int, ...] = ()
    gpu: str | None = None


@dataclass(frozen=True)
class Placement:
    """Slots that a trial's processes are pinned to."""

    slots: tuple[Slot, ...]

    @property
    def device(self) -> str:
        """As it is printed: `GPU 0`, `cores 0-1, 4`."""
        if any(slot.gpu is None and slot.cores for slot in self.slots):
            return _named_cores(self._cores())
        return ", ".join(slot.name for slot in self.slots)

    def environ(self, given: Mapping[str, str]) -> dict[str, str]:
        """Environment variables for the trial, beside `given`. A number of threads that is given is only made smaller."""
        variables = {}
        gpus = [slot.gpu for slot in self.slots if slot.gpu is not None]
        if gpus:
            variables[VISIBLE] = ",".join(gpus)
        if threads := min(len(slot.cores) for slot in self.slots):
            requested = given.get(THREADS, "")
            variables[THREADS] = str(
                min(threads, int(requested)) if requested.isdecimal() and int(requested) else threads
            )
        return variables

    @contextlib.contextmanager
    def pinned(self) -> Iterator[None]:
        """Within the block processes that this thread starts run on the cores of these slots."""
        cores = self._cores()
        if not cores or not hasattr(os, "sched_setaffinity"):
            yield
            return
        before = os.sched_getaffinity(0)
        os.sched_setaffinity(0, cores)
        try:
            yield
        finally:
            os.sched_setaffinity(0, before)

    def _cores(self) -> list[int]:
        return sorted(core for slot in self.slots for core in slot.cores)


class Slots:
    """The slots of a pool: taken by a trial, given back when it has ended."""

    def __init__(self, slots: Sequence[Slot]) -> None:
        self.all = tuple(slots)
        self._free = list(slots)

    @classmethod
    def anywhere(cls) -> "Slots":
        """For one trial at a time, which is pinned to nothing."""
        return cls([Slot("this machine")])

    def __len__(self) -> int:
        return len(self.all)

    @property
    def is_pinned(self) -> bool:
        return any(slot.cores or slot.gpu is not None for slot in self.all)

    @property
    def free(self) -> int:
        return len(self._free)

    def needed(self, config: Mapping[str, Any]) -> int:
        """Slots of a trial: one for each of its devices. Raises ConfigurationError where the pool is too small."""
        if not self.is_pinned:
            return 1
        hardware = config["hardware"]
        if hardware["nodes"] > 1:
            raise ConfigurationError(f"hardware.nodes={hardware['nodes']}: a pool is of one machine")
        devices = len(self) if hardware["devices"] == "all" else int(hardware["devices"])
        if devices > len(self):
            raise ConfigurationError(
                f"hardware.devices={devices} takes {devices} slots of the pool, which has {len(self)}; choose a larger "
                "hardware.pool, or fewer devices"
            )
        return devices

    def take(self, count: int) -> Placement | None:
        """So many free slots, the first ones; None where there are not as many."""
        if count > len(self._free):
            return None
        taken, self._free = self._free[:count], self._free[count:]
        return Placement(tuple(taken))

    def give_back(self, placement: Placement) -> None:
        self._free = [slot for slot in self.all if slot in self._free or slot in placement.slots]


def slots_of(size: Size, hardware: Mapping[str, Any], machine: Machine, key: str = "hardware.pool") -> Slots:
    """The slots that `hardware.pool` (or another `key`) asks for. Raises ConfigurationError for devices that the machine does
    not have."""
    if isinstance(size, list):
        _check_list(size)
    accelerator = hardware["accelerator"]
    if accelerator == "gpu" and not machine.gpus:
        raise ConfigurationError(f"{key}={_text(size)}: no GPU was found here; choose hardware=cpu for a pool of cores")
    if machine.gpus and accelerator != "cpu":
        return Slots(_gpus(size, machine, key))
    return Slots(_core_sets(size, hardware["threads"], machine, key))


def _check_list(numbers: list[int]) -> None:
    if not numbers:
        raise ConfigurationError("hardware.pool=[] is empty; name devices ([0,1]), a number of them, or all")
    if twice := [number for number in numbers if numbers.count(number) > 1]:
        raise ConfigurationError(f"hardware.pool={_text(numbers)}: {twice[0]} stands there twice")


def _gpus(size: Size, machine: Machine, key: str) -> list[Slot]:
    """A slot for each card, with an equal part of the cores."""
    count = len(machine.gpus)
    numbers = _chosen(size, list(range(count)), f"{count} GPU{'s' if count > 1 else ''}", "GPU", key)
    cores_each = max(1, len(machine.cores) // len(numbers))
    parts = [machine.cores[i * cores_each : (i + 1) * cores_each] or machine.cores for i in range(len(numbers))]
    return [
        Slot(f"GPU {number}", part, machine.gpus[number].entry) for number, part in zip(numbers, parts, strict=True)
    ]


def _core_sets(size: Size, threads: int | None, machine: Machine, key: str) -> list[Slot]:
    """A slot for each `threads` cores; without a number of threads cores are divided equally, or are one slot each."""
    cores = list(machine.cores)
    available = f"{len(cores)} core{'s' if len(cores) > 1 else ''} for this process"
    if isinstance(size, list):
        cores = _chosen(size, cores, f"{available} ({_named_cores(sorted(cores))})", "core", key)
    threads = threads or (len(cores) // size if isinstance(size, int) and size <= len(cores) else 1)
    count = size if isinstance(size, int) else len(cores) // threads
    if count * threads > len(cores) or not count:
        of_threads = f" of {threads} threads" if threads > 1 else ""
        most = len(cores) // threads
        advice = f"at most {key}={most}" if most else f"hardware.threads={len(cores)} at most"
        raise ConfigurationError(f"{key}={_text(size)}{of_threads}: there are {available}; {advice}")
    parts = [tuple(cores[i * threads : (i + 1) * threads]) for i in range(count)]
    return [Slot(_named_cores(sorted(part)), part) for part in parts]


def _chosen(size: Size, known: list[int], available: str, noun: str, key: str) -> list[int]:
    """The numbers of devices that `hardware.pool` names."""
    if isinstance(size, list):
        if absent := [number for number in size if number not in known]:
            raise ConfigurationError(f"{key}={_text(size)}: there is no {noun} {absent[0]}; there are {available}")
        return size
    if size == "all":
        return known
    if int(size) > len(known):
        raise ConfigurationError(f"{key}={size}: there are {available}; at most {key}={len(known)}")
    return known[: int(size)]


def _named_cores(cores: Sequence[int]) -> str:
    """`core 3`, `cores 0-3, 6`."""
    parts: list[list[int]] = []
    for core in cores:
        if parts and core == parts[-1][-1] + 1:
            parts[-1].append(core)
        else:
            parts.append([core])
    texts = [str(part[0]) if len(part) == 1 else f"{part[0]}-{part[-1]}" for part in parts]
    return f"core{'s' if len(cores) > 1 else ''} {', '.join(texts)}"


def _text(size: Size) -> str:
    return f"[{','.join(map(str, size))}]" if isinstance(size, list) else str(size)
