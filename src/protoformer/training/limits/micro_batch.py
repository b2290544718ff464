"""Automatic micro-batch (`hardware.micro_batch=null`) that halves where memory runs out while a run trains.

The run begins anew from its last checkpoint, all ranks with half the rows at once: weights, optimizer, rows and random numbers
are those of the checkpoint, whatever the failed step had done on any rank. The number stands in the run folder, so that a
stopped run continues with it, too.
"""

import json
import logging
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import lightning.pytorch as pl

from protoformer.assembly.build import Parts
from protoformer.atomic import write_text
from protoformer.distributed.memory import is_out_of_memory
from protoformer.errors import MicroBatchError
from protoformer.runs.folder import RunFolder

log = logging.getLogger(__name__)


def take_over(parts: Parts, config: Mapping[str, Any], folder: RunFolder) -> None:
    """Set the micro-batch that the run was halved to before, unless the config has one."""
    batch, file = parts.data.batch_config, folder.micro_batch_file
    if config["hardware"]["micro_batch"] is not None or not file.exists():
        return
    micro_batch = int(json.loads(file.read_text(encoding="utf-8"))["micro_batch"])
    if micro_batch < batch.held:
        log.info("hardware.micro_batch=%d: memory did not hold more at once; no result depends on it", micro_batch)
        parts.data.batch_config = replace(batch, micro_batch=micro_batch)


@contextmanager
def halving(parts: Parts, config: Mapping[str, Any], folder: RunFolder, trainer: pl.Trainer) -> Iterator[None]:
    """Where an allocation of a training step in the block fails, note half of what was held at once for the next start of the
    run, and raise MicroBatchError.

    Not where the config has a micro-batch of its own, nor where less than a row would be left.
    """
    try:
        yield
    except (RuntimeError, MemoryError, OSError) as error:
        is_of_a_step = bool(trainer.optimizers) and parts.module.training  # a validation has no micro-batches
        if not is_out_of_memory(error) or not is_of_a_step or config["hardware"]["micro_batch"] is not None:
            raise
        batch = parts.data.batch_config
        half = math.ceil(batch.held / 2)
        if not (parts.data.max_len if batch.order == "tokens" else 1) <= half < batch.held:
            raise
        write_text(folder.micro_batch_file, json.dumps({"micro_batch": half}) + "\n")
        unit = "tokens" if batch.order == "tokens" else "rows"
        message = f"out of memory with {batch.held} {unit} at once; the same command continues with {half}"
        raise MicroBatchError(message) from None
