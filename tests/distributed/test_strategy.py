"""The trainer of one rank is told of its own device alone, whoever launched it."""

from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.fabric.utilities import rank_zero as fabric_rank_zero
from lightning.pytorch.utilities import rank_zero

from protoformer.distributed import devices, strategy
from protoformer.distributed.strategy import RankEnvironment, build_strategy, trainer_devices


def test_a_rank_needs_neither_the_number_of_machines_nor_of_their_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    """torchrun --nnodes 2 --nproc-per-node 1 without hardware.nodes: Lightning's own environment raises ValueError."""
    world = {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1", "GROUP_RANK": "1"}
    for name, value in world.items():
        monkeypatch.setenv(name, value)
    for only in (rank_zero.rank_zero_only, fabric_rank_zero.rank_zero_only):
        monkeypatch.setattr(only, "rank", 0)  # set by the trainer for the whole process, and set back by this
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=trainer_devices("cpu"),
        strategy=build_strategy({"timeout": 5}, "cpu", ranks=2),
        plugins=[RankEnvironment()],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    assert (trainer.world_size, trainer.global_rank, trainer.strategy.root_device) == (2, 1, torch.device("cpu"))


@pytest.mark.parametrize(("local_rank", "visible", "index"), [("0", 8, 0), ("3", 8, 3), ("3", 1, 0), ("5", 4, 1)])
def test_the_gpu_of_a_rank_is_one_that_it_sees(
    local_rank: str, visible: int, index: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """srun --gpus-per-task=1 shows each task one GPU, number 0, whatever its local rank."""
    monkeypatch.setenv("LOCAL_RANK", local_rank)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: visible)
    assert devices.rank_device_index() == index
    assert strategy.trainer_devices("gpu") == [index]


def test_the_process_group_of_a_gpu_is_bound_to_it_and_destroyed_at_exit_unless_the_run_failed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from protoformer.distributed import collectives

    calls: dict[str, Any] = {}
    monkeypatch.setenv("LOCAL_RANK", "3")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: calls.update(device=device))
    monkeypatch.setattr(
        collectives.distributed, "init_process_group", lambda backend, **more: calls.update(backend=backend, **more)
    )
    at_exit: list[Any] = []
    monkeypatch.setattr(collectives.atexit, "register", at_exit.append)
    monkeypatch.setattr(collectives.atexit, "unregister", at_exit.remove)
    collectives.init_process_group({"accelerator": "gpu", "timeout": 600})
    gpu = torch.device("cuda", 3)
    assert (calls["backend"], calls["device_id"], calls["device"]) == ("nccl", gpu, gpu)
    assert len(at_exit) == 1
    monkeypatch.setattr(collectives.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(collectives.distributed, "get_backend", lambda: "gloo")
    collectives.forget_process_group()
    assert len(at_exit) == 1
    monkeypatch.setattr(collectives.distributed, "get_backend", lambda: "nccl")
    collectives.forget_process_group()
    assert at_exit == []
