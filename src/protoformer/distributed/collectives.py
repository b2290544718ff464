"""Collectives outside of training: initialise the process group, broadcast from rank 0, run on rank 0 first."""

import atexit
import datetime
import itertools
import os
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch
from torch import distributed
from torch.distributed import Store
from torch.distributed.rendezvous import rendezvous

from protoformer.distributed.checks.same_command import check_same_command
from protoformer.distributed.devices import rank_device_index
from protoformer.distributed.world import is_main, world_size
from protoformer.errors import ConfigurationError, UserError

T = TypeVar("T")


def init_process_group(hardware: Mapping[str, Any]) -> None:
    """Initialise the process group of all ranks (nccl on GPUs, else gloo), unless it is initialised; it is destroyed when the
    process ends.

    Raises ConfigurationError where two ranks of a machine were given the same GPU.
    """
    if distributed.is_initialized():
        return
    on_gpu = hardware["accelerator"] != "cpu" and torch.cuda.is_available()
    device = torch.device("cuda", rank_device_index()) if on_gpu else None
    if device is not None:
        torch.cuda.set_device(device)
    try:
        distributed.init_process_group("nccl" if on_gpu else "gloo", timeout=torch_timeout(hardware), device_id=device)
    except distributed.DistBackendError as error:
        if "Duplicate GPU" not in str(error):
            raise
        raise ConfigurationError(
            f"{os.environ.get('LOCAL_WORLD_SIZE', world_size())} ranks on this machine, and two of them on one GPU: start as "
            f"many as there are GPUs (torch finds {torch.cuda.device_count()}), or set hardware.accelerator=cpu"
        ) from None
    # gloo: a process that ends with its threads alive is aborted now and then ("terminate called without an active
    # exception"), about one in ten times where it ends right after a collective. nccl: warns, and may hang
    atexit.register(_destroy_process_group)


def torch_timeout(hardware: Mapping[str, Any]) -> datetime.timedelta:
    """torch's own timeout of a collective, behind that of `distributed.checks.hang`, which says more."""
    return datetime.timedelta(seconds=1.2 * hardware["timeout"] + 60)


def meet(config: Mapping[str, Any]) -> None:
    """Wait for the ranks that others started, and compare their configs, before a process group needs them to agree.

    Raises ConfigurationError where a rank was started with another config.
    """
    timeout = datetime.timedelta(seconds=config["hardware"]["timeout"])
    store, rank, ranks = next(rendezvous("env://", timeout=timeout))
    store.set_timeout(timeout)
    check_same_command(distributed.PrefixStore("same-command", store), config, rank, ranks)
    _stores.append(store)


_stores: list[Store] = []  # kept while the process lives: rank 0's is the server that the group then finds again


def forget_process_group() -> None:
    """After an error, leave a group of GPUs as it is: to destroy it would wait for ranks that have failed too."""
    if distributed.is_initialized() and distributed.get_backend() == "nccl":
        atexit.unregister(_destroy_process_group)


def _destroy_process_group() -> None:
    if distributed.is_initialized():
        distributed.destroy_process_group()


def minimum_of_ranks(value: int) -> int:
    """The least value of all ranks, on all of them."""
    if world_size() == 1:
        return value
    values = [value] * world_size()
    distributed.all_gather_object(values, value)
    return min(values)


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
    """Call `function` on the first rank of each machine, then on its other ranks, which find what the first has cached.

    They wait as long as it takes: to tokenise a large corpus takes hours, and `hardware.timeout` is for training steps.
    """
    if world_size() == 1:
        function()
        return
    is_first = os.environ.get("LOCAL_RANK", "0") == "0"
    if is_first:
        function()
    wait_for_all_ranks()
    if not is_first:
        function()


_barriers = itertools.count()  # equal on all ranks, since all wait equally often


def wait_for_all_ranks(poll_seconds: float = 0.1) -> None:
    """A barrier of the hosts: no collective, which would end at its timeout, and signals are handled while it waits."""
    if world_size() == 1:
        return
    store = distributed.distributed_c10d._get_default_store()  # no public name for the store that all ranks share
    key = f"protoformer/barrier/{next(_barriers)}"
    if store.add(key, 1) == world_size():
        store.set(f"{key}/complete", "")
    while not store.check([f"{key}/complete"]):
        time.sleep(poll_seconds)
