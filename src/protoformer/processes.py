"""Proof of life: whether a process that left its name in a file still runs.

A pid alone proves nothing, since numbers are used again. Pid and start time name one process of a machine between two boots;
inside of a container numbers count in its own pid namespace. The clock has no part in it, nor has the machine's name.
"""

import hashlib
import os
from functools import cache
from pathlib import Path


@cache
def machine() -> str:
    """Eight hex digits for this boot and pid namespace; empty where the system does not say (other than Linux)."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
        return hashlib.sha256(f"{boot} {os.readlink('/proc/self/ns/pid')}".encode()).hexdigest()[:8]
    except OSError:
        return ""


def started(pid: int) -> str:
    """When a process began, in the kernel's ticks; empty where there is no such process."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else fields[19]


def name() -> str:
    """This process as `machine-pid-start`."""
    return f"{machine()}-{os.getpid()}-{started(os.getpid())}"


def lives(process: str) -> bool | None:
    """Whether the process of that `name` runs; None where that cannot be known (another machine, an earlier boot)."""
    where, pid, since = process.split("-")
    if not where or not since or where != machine():
        return None
    return started(int(pid)) == since
