"""Peak speed of devices, in FLOP/s: the denominator of the model FLOPs utilisation (arXiv 2204.02311, appendix B)."""

import time
from collections.abc import Mapping
from typing import Any

import torch

# part of the device's name -> TFLOP/s of dense matrix products in (fp16 and bf16, tf32, fp32), from the vendor's data sheets
DATA_SHEETS: tuple[tuple[str, tuple[float, float, float]], ...] = (
    ("H200", (989.0, 494.0, 67.0)),
    ("H100 PCIe", (756.0, 378.0, 51.0)),
    ("H100", (989.0, 494.0, 67.0)),
    ("A100", (312.0, 156.0, 19.5)),
    ("V100", (125.0, 15.7, 15.7)),
    ("L40S", (362.0, 183.0, 91.6)),
    ("L4", (121.0, 60.0, 30.3)),
    ("A10", (125.0, 62.5, 31.2)),
    ("T4", (65.0, 8.1, 8.1)),
    ("RTX 4090", (165.2, 82.6, 82.6)),
    ("RTX 3090", (71.0, 35.6, 35.6)),
)


def peak_flops(hardware: Mapping[str, Any], accelerator: str) -> float | None:
    """Peak FLOP/s of one rank's device: a GPU's from its data sheet (None: not in the list), a CPU's as measured now, with
    this process's threads."""
    if accelerator == "cpu":
        return matrix_flops("cpu", hardware["precision"], seconds=0.05, rows=1024, width=512)
    name = torch.cuda.get_device_name()
    speeds = next((speeds for part, speeds in DATA_SHEETS if part in name), None)
    if speeds is None:
        return None
    column = {"bf16": 0, "fp16": 0, "tf32": 1, "fp32": 2}[hardware["precision"]]
    return speeds[column] * 1e12


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
