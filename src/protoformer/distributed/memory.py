"""Memory: the peak of a job, its release between the jobs of one process, and the line where it runs out."""

import contextlib
import errno
import gc
import re
import resource
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from protoformer.errors import DeviceMemoryError

STATUS, CLEAR_REFS = Path("/proc/self/status"), Path("/proc/self/clear_refs")
RESET_PEAK_RSS = "5"  # written to clear_refs it resets the peak resident set size (man 5 proc)
# allocations that fail elsewhere than in torch's own allocator of GPU memory
FAILED_ALLOCATIONS = ("DefaultCPUAllocator", "CUDA error: out of memory", "_STATUS_ALLOC_FAILED")
LESS_MEMORY = "shorter texts or a smaller model take less, and with CUDA_VISIBLE_DEVICES= all runs on the CPU"


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an allocation has failed, on a GPU or in main memory."""
    if isinstance(error, MemoryError):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(error, torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in FAILED_ALLOCATIONS)


@contextlib.contextmanager
def memory_advice(advice: Callable[[], str]) -> Iterator[None]:
    """Raise DeviceMemoryError where an allocation of the block fails.

    `advice` says what was held at once, and what takes less.
    """
    try:
        yield
    except (RuntimeError, MemoryError, OSError) as error:
        if not is_out_of_memory(error):
            raise
        raise DeviceMemoryError(f"out of memory with {advice()}") from None


def batch_advice(held: int, unit: str, setting: str, smallest: int = 1, otherwise: str = LESS_MEMORY) -> str:
    """Advice to halve a batch of `held` rows or tokens by a setting such as `hardware.micro_batch=`, to no less than `smallest`
    (what cannot be divided); `otherwise` says what else takes less."""
    half = -(-held // 2)
    if smallest <= half < held:
        return f"{held} {unit} at once; half as many, with the same results: {setting}{half}"
    return f"{held} {unit if held > 1 else unit.removesuffix('s')} at once; {otherwise}"


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
