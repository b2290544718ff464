"""What a machine has for a pool: CPU cores, memory of the host within its control groups, GPUs."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

VISIBLE = "CUDA_VISIBLE_DEVICES"


@dataclass(frozen=True)
class Gpu:
    """A card as CUDA counts it, and the entry of CUDA_VISIBLE_DEVICES that shows it alone."""

    entry: str
    name: str
    memory: int  # bytes


@dataclass(frozen=True)
class Machine:
    """Cores that this process may use, in the order of sockets, and GPUs that it sees."""

    cores: tuple[int, ...]
    memory: int | None  # bytes of the host that are available; None where the system does not say
    gpus: tuple[Gpu, ...] = field(default=())


def cores(system: Path = Path("/sys/devices/system/cpu")) -> tuple[int, ...]:
    """Cores of this process; those of a socket, and the threads of a core, stand side by side."""
    own = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)

    def position(core: int) -> tuple[int, int, int]:
        topology = system / f"cpu{core}" / "topology"
        return (_number(topology / "physical_package_id") or 0, _number(topology / "core_id") or 0, core)

    return tuple(sorted(own, key=position))


def gpu_entries(count: int, environ: Mapping[str, str]) -> list[str]:
    """Entries of CUDA_VISIBLE_DEVICES for each of the cards that CUDA counts: what the variable names, else their numbers."""
    named = [entry.strip() for entry in environ.get(VISIBLE, "").split(",") if entry.strip()]
    return named[:count] if named else [str(number) for number in range(count)]


def available_memory(root: Path = Path("/")) -> int | None:
    """Bytes that new processes may take: what the kernel calls available, within the limits of all control groups above."""
    amounts = []
    with_meminfo = _lines(root / "proc/meminfo")
    for line in with_meminfo:
        if line.startswith("MemAvailable:"):
            amounts.append(1024 * int(line.split()[1]))
    for line in _lines(root / "proc/self/cgroup"):
        _, controllers, path = line.split(":", 2)
        if controllers in ("", "memory"):
            top = root / "sys/fs/cgroup" / controllers
            amounts += _left_in_groups(top, path.strip("/"), is_second=not controllers)
    return min(amounts, default=None)


def _left_in_groups(top: Path, path: str, is_second: bool) -> list[int]:
    """What the limits of a group and of those above it leave; pages of files that can be dropped count as free."""
    limit, usage = ("memory.max", "memory.current") if is_second else ("memory.limit_in_bytes", "memory.usage_in_bytes")
    inactive = "inactive_file" if is_second else "total_inactive_file"
    folder, left = top / path, []
    for group in (folder, *folder.parents):
        if not group.is_relative_to(top):
            break
        most, used = _number(group / limit), _number(group / usage)
        if most is not None and used is not None and most < 2**60:  # version 1 writes a huge number for no limit
            statistics = dict(line.split(maxsplit=1) for line in _lines(group / "memory.stat"))
            left.append(max(0, most - used + int(statistics.get(inactive, "0"))))
    return left


def _number(file: Path) -> int | None:
    lines = _lines(file)
    return int(lines[0]) if lines and lines[0].strip().isdecimal() else None


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
