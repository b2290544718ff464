"""Strategy, device and precision of Lightning's Trainer, from a hardware config."""

import logging
from collections.abc import Mapping
from typing import Any

import torch
from lightning.pytorch.plugins.environments import TorchElasticEnvironment
from lightning.pytorch.strategies import DDPStrategy, Strategy

from protoformer.distributed.collectives import torch_timeout
from protoformer.distributed.devices import NO_GPU, rank_device_index
from protoformer.errors import ConfigurationError

log = logging.getLogger(__name__)
PRECISIONS: Mapping[str, Any] = {"fp32": "32-true", "tf32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}


def resolve_accelerator(hardware: Mapping[str, Any]) -> str:
    """The accelerator, `gpu` or `cpu`. Raises ConfigurationError for a GPU that torch does not see, and for fp16 on a CPU."""
    has_gpu = torch.cuda.is_available()
    requested = hardware["accelerator"]
    if requested == "gpu" and not has_gpu:
        raise ConfigurationError(NO_GPU)
    accelerator = "gpu" if has_gpu and requested != "cpu" else "cpu"
    idle = torch.cuda.device_count() - 1 if requested == "auto" and has_gpu else 0
    if idle > 0 and hardware["devices"] == 1:
        log.info("%d GPUs of this machine stay idle; hardware=ddp uses all of them", idle)
    if accelerator == "cpu" and hardware["precision"] == "fp16":
        raise ConfigurationError("fp16 on the CPU is not supported (and slow); use hardware.precision=bf16 or fp32")
    return accelerator


class RankEnvironment(TorchElasticEnvironment):
    """A process of several, as its launcher has set it up: rank and world size come from torch's environment variables.

    The trainer of each process is given its own device alone (`trainer_devices`), so it needs neither the number of machines
    nor that of processes on them; both may differ from what the hardware config says.
    """

    def local_rank(self) -> int:
        return 0  # the index in `trainer_devices`

    def validate_settings(self, num_devices: int, num_nodes: int) -> None:
        """Nothing to compare: the world is the launcher's."""


def trainer_devices(accelerator: str) -> list[int] | int:
    """This process's device, as Lightning's Trainer takes it."""
    return [rank_device_index()] if accelerator == "gpu" else 1


def shards(config: Mapping[str, Any], ranks: int) -> bool:
    """Whether the ranks of a run divide its weights among them. A run that trains nothing evaluates on whole weights."""
    if not config["hardware"]["fully_shard"]:
        return False
    if ranks == 1:
        log.info("hardware.fully_shard has no effect on one device")
    return ranks > 1 and bool(config["task"]["splits"].get("train"))


def build_strategy(hardware: Mapping[str, Any], accelerator: str, ranks: int) -> str | Strategy:
    """Lightning's strategy: `auto` for one process, else DDP over nccl or gloo, whose timeout ends the job on a lost rank.

    The strategy that shards weights is `training.sharding.strategy`.
    """
    if ranks == 1:
        return "auto"
    return DDPStrategy(
        process_group_backend="nccl" if accelerator == "gpu" else "gloo",
        timeout=torch_timeout(hardware),
        gradient_as_bucket_view=True,
    )
