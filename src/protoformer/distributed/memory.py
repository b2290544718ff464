"""Memory: the peak of a job, and its release between the jobs of one process."""

import contextlib
import gc
import re
import resource
import sys
from pathlib import Path

STATUS, CLEAR_REFS = Path("/proc/self/status"), Path("/proc/self/clear_refs")
RESET_PEAK_RSS = "5"  # written to clear_refs it resets the peak resident set size (man 5 proc)


def begin() -> None:
    """Reset the peaks. Where the system cannot (other than Linux), `peak` stays that of the process, earlier jobs included."""
    with contextlib.suppress(OSError):
        CLEAR_REFS.write_text(RESET_PEAK_RSS)
    if (torch := sys.modules.get("torch")) is not None and torch.cuda.is_initialized():
        torch.cuda.reset_peak_memory_stats()


def peak(on_gpu: bool) -> int:
    """Peak bytes since `begin`: allocated on the GPU, or resident in main memory."""
    if on_gpu:
        import torch  # not at the top: the command line imports this file

        return torch.cuda.max_memory_allocated()
    with contextlib.suppress(OSError):
        if match := re.search(r"^VmHWM:\s*(\d+) kB$", STATUS.read_text(encoding="utf-8"), re.MULTILINE):
            return int(match[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def freeze() -> None:
    """Leave all objects that are alive out of later garbage collections, whose pauses differ between ranks; until `release`."""
    gc.collect()
    gc.freeze()


def release() -> None:
    """Free what a job that has ended held. Lightning's trainer and module refer to each other, so weights and optimizer live
    until the garbage collector runs, which counts objects and does not know their size."""
    gc.unfreeze()
    gc.collect()
    if (torch := sys.modules.get("torch")) is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
