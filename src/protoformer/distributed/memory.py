"""What a job takes of the memory, and giving it back between the jobs of one process."""

import contextlib
import gc
import re
import resource
import sys
from pathlib import Path

STATUS, PEAKS = Path("/proc/self/status"), Path("/proc/self/clear_refs")
RESIDENT = "5"  # what makes Linux forget the highest resident size so far (man 5 proc)


def begin() -> None:
    """Peaks count from here on; a system that cannot forget goes on telling the process's, earlier jobs included."""
    with contextlib.suppress(OSError):
        PEAKS.write_text(RESIDENT)
    if (torch := sys.modules.get("torch")) is not None and torch.cuda.is_initialized():
        torch.cuda.reset_peak_memory_stats()


def peak(on_gpu: bool) -> int:
    """The most bytes since `begin`: allocated on the GPU, else resident in memory."""
    if on_gpu:
        import torch

        return torch.cuda.max_memory_allocated()
    with contextlib.suppress(OSError):
        if found := re.search(r"^VmHWM:\s*(\d+) kB$", STATUS.read_text(encoding="utf-8"), re.MULTILINE):
            return int(found[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def release() -> None:
    """Give back what a job that has ended held. Lightning's trainer and module hold each other, with weights and optimizer,
    until the collector comes by, which counts objects and knows nothing of their size."""
    gc.collect()
    if (torch := sys.modules.get("torch")) is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
