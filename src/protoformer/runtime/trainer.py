"""Lightning's Trainer for a config: hardware in its words, our checkpoints, logs and progress."""

import datetime
import logging
import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import Logger
from lightning.pytorch.plugins.environments import LightningEnvironment, TorchElasticEnvironment
from lightning.pytorch.strategies import DDPStrategy, Strategy

from protoformer.errors import ConfigurationError
from protoformer.runtime.callbacks import (
    ProgressBar,
    ProgressLines,
    RandomState,
    SaveBest,
    SaveLast,
    Throughput,
    interactive,
)
from protoformer.runtime.checkpoint_io import AtomicCheckpointIO
from protoformer.runtime.run_folder import RunFolder

log = logging.getLogger(__name__)
PRECISIONS: Mapping[str, Any] = {"fp32": "32-true", "tf32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}
LIMITS = (
    "max_epochs",
    "max_steps",
    "limit_train_batches",
    "limit_val_batches",
    "limit_test_batches",
    "val_check_interval",
    "check_val_every_n_epoch",
)


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


def in_micro_batches(limits: Mapping[str, Any], micro_batches: int, accumulation: int) -> dict[str, Any]:
    """The limits that count global batches (or are shares of an epoch), counted in one rank's micro-batches.

    So a limit, and when validation runs, is the same under any `hardware.micro_batch`. `micro_batches` are an epoch's.
    """
    counted = dict(limits)
    for name in ("limit_train_batches", "val_check_interval"):
        limit = limits[name]
        if isinstance(limit, float) and micro_batches:
            limit = max(1, int(micro_batches // accumulation * limit))
        if limit is not None:
            counted[name] = int(limit) * accumulation
    batches = micro_batches // accumulation
    every = limits["val_check_interval"]
    if isinstance(every, int) and 0 < batches < every:
        raise ConfigurationError(
            f"trainer.val_check_interval={every} is more than the {batches} batches of an epoch; leave it out to validate "
            "after each epoch"
        )
    if counted["limit_train_batches"] is not None:
        counted["limit_train_batches"] = min(counted["limit_train_batches"], micro_batches)
    return counted


def total_steps(limits: Mapping[str, Any], micro_batches: int, accumulation: int) -> int:
    """Optimizer steps of a whole run, from an epoch's micro-batches on one rank. `limits` as `in_micro_batches` gives."""
    if limits["limit_train_batches"] is not None:
        micro_batches = limits["limit_train_batches"]
    epochs, steps = limits["max_epochs"], limits["max_steps"]
    if epochs is None or epochs < 0:
        return int(steps)
    whole = math.ceil(micro_batches / accumulation) * epochs
    return whole if steps < 0 else min(whole, steps)


def trainer(
    config: Mapping[str, Any],
    folder: RunFolder,
    loggers: Sequence[Logger],
    throughput: Throughput,
    *,
    ranks: int,
    accumulation: int,
    limits: Mapping[str, Any],
    extra: Sequence[Callback] = (),
) -> pl.Trainer:
    """A trainer whose checkpoints, logs and metrics go to the run's folder and nowhere else; `limits` in micro-batches."""
    hardware = config["hardware"]
    accelerator = device(hardware)
    if hardware["precision"] == "tf32":
        _use_tf32(accelerator)
    nodes = hardware["nodes"] if ranks > 1 else 1
    bar = interactive()
    callbacks: list[Callback] = [
        throughput,
        RandomState(),
        ProgressBar(throughput) if bar else ProgressLines(throughput),
        SaveBest(folder.best_checkpoint),
        SaveLast(folder.last_checkpoint, config["trainer"]["checkpoint_every"]),
        *extra,
    ]
    return pl.Trainer(
        accelerator=accelerator,
        devices=int(os.environ.get("LOCAL_WORLD_SIZE", ranks // nodes)) if ranks > 1 else 1,
        num_nodes=nodes,
        strategy=strategy(hardware, accelerator, ranks),
        precision=PRECISIONS[hardware["precision"]],
        **{key: limits[key] for key in LIMITS if limits[key] is not None},
        deterministic=config["trainer"]["deterministic"],
        accumulate_grad_batches=accumulation,
        log_every_n_steps=config["trainer"]["log_every"],
        logger=list(loggers),
        callbacks=callbacks,
        plugins=[AtomicCheckpointIO(), TorchElasticEnvironment() if ranks > 1 else LightningEnvironment()],
        default_root_dir=folder.path,
        enable_model_summary=False,
        enable_progress_bar=bar,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
    )
