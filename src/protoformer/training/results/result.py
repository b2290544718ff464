"""Result: what `result.json` says of a finished run."""

import datetime
import platform
from collections.abc import Mapping
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback

from protoformer.distributed import memory
from protoformer.distributed.strategy import resolve_accelerator
from protoformer.modules.evaluation import calibrations
from protoformer.runs.digests import code_digest
from protoformer.runs.folder import RunFolder
from protoformer.runs.metrics import read_curves
from protoformer.training.callbacks.checkpointing import SaveBestCheckpoint
from protoformer.training.callbacks.probes import ScoreProbes
from protoformer.training.callbacks.progress import passes
from protoformer.training.callbacks.throughput import Throughput
from protoformer.training.checkpoints import read_header
from protoformer.training.limits.ending import ending
from protoformer.training.measures.spikes import Spikes

if TYPE_CHECKING:
    from protoformer.assembly.build import Parts

PACKAGES = ("protoformer", "torch", "lightning", "hydra-core", "tokenizers", "datasets", "torchmetrics", "numpy")


def run_result(
    config: Mapping[str, Any], folder: RunFolder, parts: "Parts", metrics: Mapping[str, float], **measured: Any
) -> dict[str, Any]:
    """The content of `result.json`. `measured` are its entries of this very process: `training`, `hardware`, ..."""
    tables = {
        f"{role}/{split}".rstrip("/"): table.stats
        for role, splits in parts.data.tables.items()
        for split, table in splits.items()
    }
    return {
        "run_id": folder.run_id,
        "attempt": folder.attempt,
        "model": config["choices"]["model"],
        "task": config["choices"]["task"],
        "family": config["choices"]["family"],
        "kind": config["task"]["kind"],
        "task_type": task_type(parts),
        "seed": config["seed"],
        "score": metrics.get("val/score"),
        "metrics": dict(metrics),
        "averaged": averaged_steps(folder),
        "notes": {
            f"{stage}/{split}".rstrip("/"): dict(evaluation.notes)
            for stage, splits in parts.module.evaluations.items()
            for split, evaluation in splits.items()
            if evaluation.notes
        },
        "class_scores": {
            f"{stage}/{split}".rstrip("/"): evaluation.class_scores
            for stage, splits in parts.module.evaluations.items()
            for split, evaluation in splits.items()
            if evaluation.class_scores is not None
        },
        "calibration": calibrations(parts.module.evaluations),
        "parameters": sum(p.numel() for p in parts.module.parameters()),
        "trained_parameters": sum(p.numel() for p in parts.module.parameters() if p.requires_grad),
        "data": {
            name: {key: value for key, value in stats.items() if key != "digest"} for name, stats in tables.items()
        },
        "digests": {
            "code": code_digest(config),
            "data": {name: stats["digest"] for name, stats in tables.items()},
            "weights": parts.initial_weights.digest,
        },
        "init_from": parts.initial_weights.source_name,
        "data_commits": getattr(parts.source, "commits", {}),
        "versions": {name: metadata.version(name) for name in PACKAGES} | {"python": platform.python_version()},
        "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        **measured,
    }


def probe_results(trainer: pl.Trainer, metrics_file: Path) -> dict[str, dict[str, Any]]:
    """The entry `probes`: the curve of each probe's main metric as the log has it (`metric`, `steps`, `values`). None where
    there are no probes, and on ranks without a log."""
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]  # set by Lightning's connector
    main_metrics = next((each.main_metrics for each in callbacks if isinstance(each, ScoreProbes)), None)
    if not main_metrics or not trainer.is_global_zero:
        return {}
    curves = read_curves(metrics_file)
    probes = {
        name: {"metric": metric, "steps": curves[metric][0], "values": curves[metric][1]}
        for name, metric in main_metrics.items()
        if metric in curves
    }
    return {"probes": probes}


def task_type(parts: "Parts") -> dict[str, Any]:
    """What reports need to know of the kind of task, from its evaluations and its data."""
    evaluations = [each for splits in parts.module.evaluations.values() for each in splits.values()]
    return {
        "main_metrics": list(dict.fromkeys(name for each in evaluations for name in each.scores)),
        "percent_metrics": sorted(
            {name for each in evaluations for name in each.percent_metrics | each.further_percent_metrics}
        ),
        "headline": next((each.headline for each in evaluations if each.headline), None),
        "has_labels": any(each.has_labels for each in evaluations),
        "free_text": any(each.free_text for each in evaluations),
        "incomplete_data": dict(parts.data.incomplete_data),
    }


def training_stats(
    trainer: pl.Trainer, throughput: Throughput, wall_seconds: float, skipped_steps: int = 0
) -> dict[str, object]:
    """Steps, epochs, seconds, and mean rates over the training steps (None: nothing was trained), without those of the first
    window of each process, in which the device warms up; spike scores by name in percent (None: at most 100 steps); and steps
    that a gradient scaler skipped, if any."""
    measured = throughput.warm.rates(throughput.peak(trainer.world_size))
    rates: dict[str, float | None] = {} if measured is None else asdict(measured)
    epochs = passes(trainer, trainer.global_step)
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]  # set by Lightning's connector
    spikes = next((each.percent for each in callbacks if isinstance(each, Spikes)), None)
    return {
        "steps": trainer.global_step,
        "epochs": trainer.current_epoch if epochs is None else round(epochs, 2 if epochs >= 0.01 else 6),
        **ending(trainer),
        "seconds": round(throughput.seconds, 1),
        "examples_per_s": _rounded(rates.get("examples_per_s"), 2),
        "tokens_per_s": _rounded(rates.get("tokens_per_s"), 1),
        "flops_per_s": None if measured is None else round(measured.flops_per_s),
        "mfu": None if measured is None or measured.mfu is None else float(f"{measured.mfu:.3g}"),
        "data_wait": _rounded(rates.get("data_wait"), 4),
        "packing_efficiency": _rounded(rates.get("packing_efficiency"), 4),
        "spike_score": {name: round(percent, 3) for name, percent in spikes.items()} if spikes else None,
        "wall_seconds": round(wall_seconds, 1),
        **({"skipped_steps": skipped_steps} if skipped_steps else {}),
    }


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)


def hardware_stats(hardware: Mapping[str, Any], ranks: int) -> dict[str, Any]:
    """The device's name, the number of ranks, the precision."""
    on_gpu = resolve_accelerator(hardware) == "gpu"
    return {
        "device": torch.cuda.get_device_name()
        if on_gpu
        else f"CPU ({torch.get_num_threads()} thread{'s' * (torch.get_num_threads() != 1)})",
        "ranks": ranks,
        "precision": hardware["precision"],
    }


def peak_memory_gib(hardware: Mapping[str, Any]) -> float:
    """Peak memory of this rank since `memory.begin`, on the GPU or else resident, in GiB."""
    return round(memory.peak(resolve_accelerator(hardware) == "gpu") / 2**30, 2)


def best_checkpoint(folder: RunFolder, trainer: pl.Trainer) -> dict[str, int | float | None] | None:
    """Step and epoch of the best checkpoint, and its dev score when it was saved (None: there is none)."""
    if not folder.best_checkpoint.exists():
        return None
    header = read_header(folder.best_checkpoint)
    scores = [each.score for each in trainer.checkpoint_callbacks if isinstance(each, SaveBestCheckpoint)]
    return {"step": header.global_step, "epoch": header.epoch, "score": scores[0] if scores else None}


def averaged_steps(folder: RunFolder) -> list[int] | None:
    """Steps of the checkpoints that were averaged (None: none were)."""
    path = folder.averaged_checkpoint
    return read_header(path).averaged_steps if path.exists() else None
