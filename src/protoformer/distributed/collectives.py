"""Collectives outside training: join the group, broadcast from rank 0, rank 0 first."""

import datetime
import os
from collections.abc import Callable, Mapping
from typing import Any

from protoformer.distributed.world import is_main, world_size
from protoformer.errors import UserError


def init_process_group(hardware: Mapping[str, Any]) -> None:
    """Enter the process group of all ranks, unless this one is in it."""
    import torch
    from torch import distributed

    if distributed.is_initialized():
        return
    on_gpu = hardware["accelerator"] != "cpu" and torch.cuda.is_available()
    if on_gpu:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    limit = datetime.timedelta(seconds=hardware["timeout"])
    distributed.init_process_group("nccl" if on_gpu else "gloo", timeout=limit)


def broadcast_from_rank0(work: Callable[[], Any]) -> Any:
    """What `work` gives on rank 0, on every rank. Its user error is raised on rank 0; the others leave without a word."""
    from torch import distributed

    told: list[Any] = [None]
    error: UserError | None = None
    if is_main():
        try:
            told = [("done", work())]
        except UserError as caught:
            error, told = caught, [("failed", caught.exit_code)]
    distributed.broadcast_object_list(told, src=0)
    if error is not None:
        raise error
    word, value = told[0]
    if word == "failed":
        raise SystemExit(value)
    return value


def rank0_first(work: Callable[[], Any]) -> None:
    """`work` on the first rank of each machine, then on the others."""
    if world_size() == 1:
        work()
        return
    from torch import distributed

    first = os.environ.get("LOCAL_RANK", "0") == "0"
    if first:
        work()
    distributed.barrier()
    if not first:
        work()
