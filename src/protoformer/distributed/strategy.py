"""Lightning's strategy, device and precision for a hardware config."""

import datetime
import logging
from collections.abc import Mapping
from typing import Any

import torch
from lightning.pytorch.strategies import DDPStrategy, Strategy

from protoformer.errors import ConfigurationError

log = logging.getLogger(__name__)


PRECISIONS: Mapping[str, Any] = {"fp32": "32-true", "tf32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}


def device(hardware: Mapping[str, Any]) -> str:
    """`gpu` or `cpu`. Raises ConfigurationError when a GPU is asked for and none is there."""
    there = torch.cuda.is_available()
    wanted = hardware["accelerator"]
    if wanted == "gpu" and not there:
        raise ConfigurationError("hardware.accelerator=gpu, but torch sees no GPU here; hardware=cpu or hardware=auto")
    chosen = "gpu" if there and wanted != "cpu" else "cpu"
    idle = torch.cuda.device_count() - 1 if wanted == "auto" and there else 0
    if idle > 0 and hardware["devices"] == 1:
        log.info("%d GPUs of this machine stay idle; hardware=ddp uses all of them", idle)
    if chosen == "cpu" and hardware["precision"] == "fp16":
        raise ConfigurationError("fp16 on the CPU is not supported (and slow); use hardware.precision=bf16 or fp32")
    return chosen


def _use_tf32(accelerator: str) -> None:
    if accelerator == "gpu":
        torch.set_float32_matmul_precision("high")
    else:
        log.info("hardware.precision=tf32 has no effect on the CPU: this run computes in fp32")


def strategy(hardware: Mapping[str, Any], accelerator: str, ranks: int) -> str | Strategy:
    """One process, or DDP over nccl or gloo with a time-out, so that a lost rank ends the job."""
    if ranks == 1:
        return "auto"
    return DDPStrategy(
        process_group_backend="nccl" if accelerator == "gpu" else "gloo",
        timeout=datetime.timedelta(seconds=hardware["timeout"]),
        gradient_as_bucket_view=True,
    )
