"""Backends: torch's process-wide switches, set anew for each run, so that no run of a sweep inherits another's."""

import logging
import os
from collections.abc import MutableMapping

import torch

log = logging.getLogger(__name__)


def configure_backends(precision: str, accelerator: str) -> None:
    """Set what `hardware.precision` means outside of autocast, and which attention kernels may run.

    `tf32`: float32 matrix products, convolutions and recurrences in TF32 on a GPU; otherwise they are in full float32,
    cuDNN's too, for which torch's default is TF32. cuDNN's attention is off: it builds an execution plan for each new shape of
    a batch, about a second forward and backward, and shapes are new all the time; torch's other kernels have none.
    """
    tf32 = precision == "tf32" and accelerator == "gpu"
    if precision == "tf32" and not tf32:
        log.info("hardware.precision=tf32 has no effect on the CPU: this run computes in fp32")
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    torch.backends.cudnn.allow_tf32 = tf32
    disable_cudnn_attention()
    if accelerator == "gpu":
        configure_allocator(os.environ)


def disable_cudnn_attention() -> None:
    """Leave attention to torch's own kernels: decoding has other shapes in each step."""
    torch.backends.cuda.enable_cudnn_sdp(False)


def configure_allocator(environ: MutableMapping[str, str]) -> None:
    """Let GPU memory grow in place, unless the user has set the allocator. Packed batches differ in size from step to step,
    and fixed segments would fragment. Read by torch when the first tensor is allocated on a GPU."""
    if not {"PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"} & set(environ):
        environ["PYTORCH_ALLOC_CONF"] = "expandable_segments:True"
