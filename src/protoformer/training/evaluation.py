"""The evaluation at the end of a run: which weights, which splits, and what is kept of one that takes long."""

import hashlib
import json
import logging
from collections.abc import Mapping
from typing import Any

import lightning.pytorch as pl

from protoformer.assembly.build import Parts
from protoformer.modules.evaluation_journal import EvaluationJournal
from protoformer.runs.digests import code_digest
from protoformer.runs.folder import RunFolder
from protoformer.training.sharding.checkpoints import load_weights

log = logging.getLogger(__name__)


def evaluate(trainer: pl.Trainer, parts: Parts, folder: RunFolder) -> dict[str, float]:
    """Dev and test metrics of the averaged checkpoint, or of the best one (by `val/score`)."""
    module, data = parts.module, parts.data
    is_validated = False  # whether the fit ended with a validation of these very weights
    if folder.averaged_checkpoint.exists():
        load_weights(module, folder.averaged_checkpoint)
    elif folder.best_checkpoint.exists():
        step = load_weights(module, folder.best_checkpoint)
        is_validated = bool(module.evaluations.get("val")) and step == trainer.global_step
    metrics: dict[str, float] = {}
    if data.tables["validation"]:
        if not is_validated:
            trainer.validate(module, datamodule=data, verbose=False)
        metrics |= _logged_metrics(trainer, "val/")
    if data.tables["test"]:
        trainer.test(module, datamodule=data, verbose=False)
        metrics |= _logged_metrics(trainer, "test/")
    return metrics


def _logged_metrics(trainer: pl.Trainer, prefix: str) -> dict[str, float]:
    return {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith(prefix)}


def keep_evaluated_batches(parts: Parts, config: Mapping[str, Any], folder: RunFolder, rank: int) -> None:
    """Let an evaluation that is all of a run's work go on after a stop, by a journal of the batches that are evaluated."""
    digests = [table.stats["digest"] for tables in parts.data.tables.values() for table in tables.values()]
    # what decides the numbers, besides the config that names the run's folder
    text = json.dumps([code_digest(config), parts.initial_weights.digest, digests])
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    journal = parts.module.journal = EvaluationJournal(folder.evaluation, digest, rank)
    if len(journal) and rank == 0:
        log.info("continuing: %d batches are evaluated already", len(journal))
