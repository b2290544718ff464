"""Devices: which GPU is a rank's, and the peak speed of a device in FLOP/s: the denominator of the model FLOPs utilisation
(arXiv 2204.02311, appendix B)."""

import logging
import os
import re
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch

from protoformer.errors import ConfigurationError

log = logging.getLogger(__name__)


class PeakSpeed(NamedTuple):
    """TFLOP/s of dense matrix products (without sparsity) that add in fp32, from the vendor's data sheets and white papers."""

    half: float  # fp16 and bf16
    tf32: float
    fp32: float


# words of a device's name -> its speed; of several entries whose words all occur in a name the one of most words counts
DATA_SHEETS: Mapping[str, PeakSpeed] = {
    "GB300": PeakSpeed(2500.0, 1250.0, 80.0),
    "B300": PeakSpeed(2250.0, 1125.0, 75.0),
    "GB200": PeakSpeed(2500.0, 1250.0, 80.0),
    "B200": PeakSpeed(2250.0, 1125.0, 75.0),
    "GH200": PeakSpeed(989.0, 494.0, 67.0),
    "H200": PeakSpeed(989.0, 494.0, 67.0),
    "H200 NVL": PeakSpeed(835.0, 417.0, 60.0),
    "H100": PeakSpeed(989.0, 494.0, 67.0),
    "H100 PCIe": PeakSpeed(756.0, 378.0, 51.0),
    "H100 NVL": PeakSpeed(835.0, 417.0, 60.0),
    "H800": PeakSpeed(989.0, 494.0, 67.0),
    "H800 PCIe": PeakSpeed(756.0, 378.0, 51.0),
    "H20": PeakSpeed(148.0, 74.0, 44.0),
    "A100": PeakSpeed(312.0, 156.0, 19.5),
    "A800": PeakSpeed(312.0, 156.0, 19.5),
    "A40": PeakSpeed(149.7, 74.8, 37.4),
    "A30": PeakSpeed(165.0, 82.0, 10.3),
    "A10": PeakSpeed(125.0, 62.5, 31.2),
    "A10G": PeakSpeed(70.0, 35.0, 35.0),
    "V100": PeakSpeed(125.0, 15.7, 15.7),
    "V100 PCIE": PeakSpeed(112.0, 14.0, 14.0),
    "L40S": PeakSpeed(362.0, 183.0, 91.6),
    "L40": PeakSpeed(181.0, 90.5, 90.5),
    "L4": PeakSpeed(121.0, 60.0, 30.3),
    "T4": PeakSpeed(65.0, 8.1, 8.1),
    "RTX 6000 Ada": PeakSpeed(364.2, 182.1, 91.1),
    "RTX A6000": PeakSpeed(154.8, 77.4, 38.7),
    "RTX PRO 6000 Blackwell Workstation": PeakSpeed(503.8, 251.9, 126.0),
    "RTX PRO 6000 Blackwell Max-Q Workstation": PeakSpeed(438.9, 219.5, 109.7),
    "RTX 5090": PeakSpeed(209.5, 104.8, 104.8),
    "RTX 5080": PeakSpeed(112.6, 56.3, 56.3),
    "RTX 4090": PeakSpeed(165.2, 82.6, 82.6),
    "RTX 4090 D": PeakSpeed(147.1, 73.5, 73.5),
    "RTX 4080": PeakSpeed(97.5, 48.7, 48.7),
    "RTX 3090": PeakSpeed(71.0, 35.6, 35.6),
    "RTX 3090 Ti": PeakSpeed(80.0, 40.0, 40.0),
}
NO_GPU = "hardware.accelerator=gpu, but torch finds no GPU; use hardware=cpu or hardware=auto"
PARTIAL = {"mig", "laptop", "vgpu"}  # a slice of a card, and mobile cards, are slower than the card of that name
VARIANTS = {"ti", "super", "d", "max"}  # further words that make another card of a name


def check_devices(hardware: Mapping[str, Any], local_ranks: int) -> None:
    """Raise ConfigurationError for GPUs that this machine does not have."""
    if hardware["accelerator"] == "cpu":
        return
    if not torch.cuda.is_available():
        if hardware["accelerator"] == "gpu":
            raise ConfigurationError(NO_GPU)
    elif local_ranks > torch.cuda.device_count():
        raise ConfigurationError(
            f"hardware.devices={local_ranks}, but torch finds {torch.cuda.device_count()} GPUs; hardware.devices=all uses all"
        )


def rank_device_index() -> int:
    """The index of this rank's GPU among those that its process sees.

    A launcher that gives each task a GPU of its own (srun --gpus-per-task=1) shows one, whatever the rank's local number.
    """
    return int(os.environ.get("LOCAL_RANK", "0")) % max(1, torch.cuda.device_count())


def default_workers(accelerator: str, cores: int, local_ranks: int) -> int:
    """Processes that load data where no number is set: a GPU would wait for batches, a CPU computes itself."""
    return min(4, max(0, cores // local_ranks - 1)) if accelerator == "gpu" else 0


def data_sheet(name: str) -> PeakSpeed | None:
    """The peak speed of the GPU of this name, None for one that is not in the list."""
    words = _words(name)
    if words & PARTIAL:
        return None
    known = [entry for entry in DATA_SHEETS if _words(entry) <= words and words & VARIANTS <= _words(entry)]
    return DATA_SHEETS[max(known, key=lambda entry: len(_words(entry)))] if known else None


def peak_of(speed: PeakSpeed, precision: str) -> float:
    """Peak FLOP/s in a precision of `hardware.precision`."""
    column = {"bf16": speed.half, "fp16": speed.half, "tf32": speed.tf32, "fp32": speed.fp32}
    return column[precision] * 1e12


def _words(name: str) -> set[str]:
    return set(re.findall(r"[a-z0-9]+", name.lower()))


def peak_flops(hardware: Mapping[str, Any], accelerator: str) -> float | None:
    """Peak FLOP/s of one rank's device: a GPU's from its data sheet (None, and a line of the log: not in the list), a CPU's as
    measured now, with this process's threads."""
    if accelerator == "cpu":
        return matrix_flops("cpu", hardware["precision"], seconds=0.05, rows=1024, width=512)
    name = torch.cuda.get_device_name(rank_device_index())
    speed = data_sheet(name)
    if speed is None:
        log.info("no MFU is logged: the peak speed of %s is not known", name)
        return None
    return peak_of(speed, hardware["precision"])


def faster_precision(precision: str, name: str, bf16_supported: bool) -> str | None:
    """One line for the log where a run computes in fp32 on a GPU that is much faster in bf16; else None."""
    if precision not in ("fp32", "tf32") or not bf16_supported:
        return None
    speed, times = data_sheet(name), "several times"
    if speed is not None:
        times = f"{speed.half / (speed.fp32 if precision == 'fp32' else speed.tf32):.0f} times"
    return f"{name} multiplies large matrices in bf16 {times} as fast as in {precision}: hardware.precision=bf16"


def matrix_flops(device: str, precision: str, seconds: float = 0.3, rows: int = 2048, width: int = 1024) -> float:
    """Measured FLOP/s of matrix products, (rows x width) times (width x width), on this machine."""
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision, torch.float32)
    a, b = torch.randn(rows, width, device=device, dtype=dtype), torch.randn(width, width, device=device, dtype=dtype)

    def seconds_per_product(times: int) -> float:
        started_at = time.perf_counter()
        for _ in range(times):
            a @ b
        if device == "cuda":
            torch.cuda.synchronize()
        return (time.perf_counter() - started_at) / times

    seconds_per_product(2)  # warm-up
    once = seconds_per_product(2)
    return 2 * rows * width * width / seconds_per_product(max(2, int(seconds / once)))
