"""The Lightning Trainer of a run: its hardware, checkpoints, loggers and progress."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import Logger
from lightning.pytorch.plugins.environments import LightningEnvironment

from protoformer.assembly.steps import LIMITS
from protoformer.blocks.stacks import layers_of
from protoformer.distributed.collectives import torch_timeout
from protoformer.distributed.strategy import (
    PRECISIONS,
    RankEnvironment,
    build_strategy,
    resolve_accelerator,
    shards,
    trainer_devices,
)
from protoformer.runs.folder import RunFolder
from protoformer.training.callbacks.bar import ProgressBar
from protoformer.training.callbacks.checkpointing import SaveBestCheckpoint, SaveLastCheckpoint
from protoformer.training.callbacks.garbage import CollectGarbage
from protoformer.training.callbacks.moving_average import WeightAverage
from protoformer.training.callbacks.progress import ProgressLines, is_interactive
from protoformer.training.callbacks.rng_state import SaveRngState
from protoformer.training.callbacks.step_logger import StepLogger
from protoformer.training.callbacks.throughput import Throughput
from protoformer.training.checkpoints import AtomicCheckpointIO
from protoformer.training.measures.layers import WatchLayers
from protoformer.training.measures.spikes import Spikes
from protoformer.training.sharding.strategy import ShardedStrategy

log = logging.getLogger(__name__)


def build_trainer(
    config: Mapping[str, Any],
    folder: RunFolder,
    loggers: Sequence[Logger],
    throughput: Throughput,
    *,
    ranks: int,
    accumulation: int,
    limits: Mapping[str, Any],
    extra_callbacks: Sequence[Callback] = (),
) -> pl.Trainer:
    """A Trainer that writes to the run's folder and nowhere else.

    `accumulation` is the number of micro-batches of a step; `limits` are the Trainer's limits in micro-batches of one rank (see
    `assembly.steps`).
    """
    hardware = config["hardware"]
    accelerator = resolve_accelerator(hardware)
    is_sharded = shards(config, ranks)
    spikes = Spikes()
    watch = WatchLayers(config["trainer"]["log_every"]) if config["trainer"]["watch"] == "layers" else None
    decay = config["recipe"].get("ema")
    average = None if decay is None else WeightAverage(decay)
    callbacks: list[Callback] = [
        throughput,
        spikes,
        *([watch] if watch else []),
        StepLogger(throughput, spikes, watch),
        SaveRngState(),
        ProgressBar(throughput) if is_interactive() else ProgressLines(throughput),
        *([average] if average else []),
        SaveBestCheckpoint(folder.best_checkpoint, average),
        SaveLastCheckpoint(
            folder,
            config["trainer"]["checkpoint_every"],
            every_minutes=config["trainer"]["checkpoint_minutes"],
            keep=config["trainer"]["keep_checkpoints"],
            log_every=config["trainer"]["log_every"],
            average=average,
        ),
        CollectGarbage(),
        *extra_callbacks,
    ]
    return pl.Trainer(
        accelerator=accelerator,
        devices=trainer_devices(accelerator),
        strategy=_sharded(hardware, accelerator, ranks) if is_sharded else build_strategy(hardware, accelerator, ranks),
        precision=PRECISIONS[hardware["precision"]],
        **{key: limits[key] for key in LIMITS if limits[key] is not None},
        deterministic=config["trainer"]["deterministic"],
        accumulate_grad_batches=accumulation,
        log_every_n_steps=config["trainer"]["log_every"],
        logger=list(loggers),
        callbacks=callbacks,
        plugins=[AtomicCheckpointIO(), RankEnvironment() if ranks > 1 else LightningEnvironment()],
        default_root_dir=folder.path,
        enable_model_summary=False,
        enable_progress_bar=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        inference_mode=not is_sharded,  # weights that are gathered in it could not be trained afterwards
    )


def _sharded(hardware: Mapping[str, Any], accelerator: str, ranks: int) -> ShardedStrategy:
    return ShardedStrategy(
        ranks,
        layers_of,
        bf16=hardware["precision"] == "bf16",
        backend="nccl" if accelerator == "gpu" else "gloo",
        timeout=torch_timeout(hardware),
    )
