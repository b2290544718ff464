"""Collectives outside of training: initialise the process group, broadcast from rank 0, run on rank 0 first."""

import atexit
import datetime
import os
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch
from torch import distributed

from protoformer.distributed.world import is_main, world_size
from protoformer.errors import UserError

T = TypeVar("T")


def init_process_group(hardware: Mapping[str, Any]) -> None:
    """Initialise the process group of all ranks (nccl on GPUs, else gloo), unless it is initialised."""
    if distributed.is_initialized():
        return
    on_gpu = hardware["accelerator"] != "cpu" and torch.cuda.is_available()
    if on_gpu:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    timeout = datetime.timedelta(seconds=hardware["timeout"])
    distributed.init_process_group("nccl" if on_gpu else "gloo", timeout=timeout)
    if not on_gpu:
        # a process that ends with gloo's threads alive is aborted now and then ("terminate called without an active
        # exception"), about one in ten times where it ends right after a collective
        atexit.register(_destroy_process_group)


def _destroy_process_group() -> None:
    if distributed.is_initialized():
        distributed.destroy_process_group()


def broadcast_from_rank0(function: Callable[[], T]) -> T:
    """Call `function` on rank 0; every rank returns its value.

    A UserError is raised on rank 0 alone; the other ranks end with its exit code and print nothing.
    """
    message: list[Any] = [None]
    error: UserError | None = None
    if is_main():
        try:
            message = [("value", function())]
        except UserError as raised:
            error, message = raised, [("exit_code", raised.exit_code)]
    distributed.broadcast_object_list(message, src=0)
    if error is not None:
        raise error
    kind, value = message[0]
    if kind == "exit_code":
        raise SystemExit(value)
    return value


def rank0_first(function: Callable[[], None]) -> None:
    """Call `function` on the first rank of each machine, then on its other ranks, which find what the first has cached."""
    if world_size() == 1:
        function()
        return
    is_first = os.environ.get("LOCAL_RANK", "0") == "0"
    if is_first:
        function()
    distributed.barrier()
    if not is_first:
        function()
