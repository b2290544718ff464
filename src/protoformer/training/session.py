"""One rank's work: build, fit, average, evaluate, record."""

import datetime
import logging
import platform
import time
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from protoformer.distributed import memory
from protoformer.distributed.collectives import rank0_first
from protoformer.distributed.signals import Stop, stopped
from protoformer.runs.digests import code_digest
from protoformer.runs.folder import RunFolder
from protoformer.training.optional import optional

log = logging.getLogger(__name__)


VERSIONS = ("protoformer", "torch", "lightning", "hydra-core", "tokenizers", "datasets", "torchmetrics", "numpy")


class TrainingSession:
    """The parts of a run that outlive a single step of it: trainer, logger, timing."""

    def __init__(
        self, config: dict[str, Any], folder: RunFolder, command: str, rank: int, ranks: int, stop: Stop
    ) -> None:
        from lightning.pytorch import seed_everything

        from protoformer.assembly.build import build
        from protoformer.distributed.devices import peak_flops
        from protoformer.distributed.strategy import device
        from protoformer.training.throughput import Throughput

        self.config, self.folder, self.command, self.rank, self.ranks = config, folder, command, rank, ranks
        self.begun, self.stop = time.time(), stop
        # initial weights are the same on every rank; what is drawn after them (dropout) is each rank's own
        seed_everything(config["seed"], verbose=False)
        self.resuming = folder.last_checkpoint.exists()
        self.parts = build(config, rank=rank, ranks=ranks, initialise=not self.resuming)
        seed_everything(config["seed"] + rank, verbose=False)
        self.peak = peak_flops(config["hardware"], device(config["hardware"]))
        self.throughput = Throughput(config["trainer"]["log_every"], self.peak)
        self.built = {**config, "model": {**config["model"], **self.parts.sizes, "format": self.parts.format}}
        if rank == 0:
            folder.write_config(self.built)

    def run(self) -> dict[str, Any]:
        from protoformer.assembly.model import STAGES
        from protoformer.assembly.steps import in_micro_batches, total_steps
        from protoformer.training import tracking
        from protoformer.training.metrics_log import MetricsLog
        from protoformer.training.samples import LogSamples
        from protoformer.training.trainer import trainer

        logger = tracking.tracker(self.built, self.folder) if self.rank == 0 else None
        exit_code, summary, mistakes = 1, {}, []
        try:
            data = self.parts.data
            rank0_first(data.setup)  # the first rank of a machine tokenises, the others find the cache
            self.parts.module.splits = {stage: list(data.tables[role]) for stage, role in STAGES.items()}
            self.parts.module.references = {
                stage: {split: data.references(role, split) for split in data.tables[role]}
                for stage, role in STAGES.items()
            }
            micro_batches, accumulation = len(data.train_dataloader()), data.batching.accumulation
            limits = in_micro_batches(self.config["trainer"], micro_batches, accumulation)
            self.parts.module.total_steps = total_steps(limits, micro_batches, accumulation)
            self.metrics_log = MetricsLog(self.folder.path)
            loggers = [self.metrics_log, *([logger] if logger else [])]
            self.trainer = trainer(
                self.config,
                self.folder,
                loggers,
                self.throughput,
                ranks=self.ranks,
                accumulation=accumulation,
                limits=limits,
                extra=[LogSamples(self.folder.path), *self._snapshots()],
            )
            self.stop.watch(self.parts.module, self.trainer)
            self._fit()
            self._average()
            if self.parts.module.stop_wanted:  # with the last step: all that is left to do is to evaluate
                raise stopped(self.parts.module.stop_wanted, self.trainer.global_step)
            metrics = self._evaluate()
            result = self._result(metrics)
            if self.rank == 0:
                self._write(result)
                mistakes = self._leave(loggers)
            exit_code, summary = 0, metrics
            return result
        except BaseException as error:
            exit_code = getattr(error, "exit_code", 1)
            raise
        finally:
            tracking.finish(logger, summary, mistakes, exit_code)

    def _fit(self) -> None:
        """Train, from the last checkpoint where there is one; a task without a training split is only tested."""
        from protoformer.models.weights import read_pickle

        if not self.config["task"]["splits"].get("train"):
            return
        last = str(self.folder.last_checkpoint) if self.resuming else None
        if last:
            step = read_pickle(Path(last))["global_step"]
            self.metrics_log.truncate_after(step)
            log.info("continuing from step %d (%s)", step, last)
        if self.config["hardware"]["compile"]:
            self.parts.module.backbone.compile()
        self.trainer.fit(self.parts.module, datamodule=self.parts.data, ckpt_path=last, weights_only=True)

    def _snapshots(self) -> list[Any]:
        """What keeps the checkpoints that are to be averaged."""
        from protoformer.training.averaging import SaveSnapshots

        recipe = self.config["recipe"]
        if recipe["average"] == 1:
            return []
        return [SaveSnapshots(self.folder.checkpoints / "snapshots", recipe["average"], recipe["average_every"])]

    def _average(self) -> None:
        """The mean of the last checkpoints, where the recipe asks for it."""
        from protoformer.training.averaging import average

        wanted = self.config["recipe"]["average"] > 1 and self.config["task"]["splits"].get("train")
        if wanted and not self.parts.module.stop_wanted:
            if self.rank == 0:
                average(self.folder.checkpoints / "snapshots", self.folder.averaged_checkpoint)
            self.trainer.strategy.barrier()

    def _evaluate(self) -> dict[str, float]:
        """Dev and test numbers of the averaged checkpoint, or of the best (by `val/score`)."""
        from protoformer.models.weights import read_pickle

        module, data = self.parts.module, self.parts.data
        metrics: dict[str, float] = {}
        seen_last = False  # whether the fit ended with a validation of these very weights
        if self.folder.averaged_checkpoint.exists():
            module.load_state_dict(read_pickle(self.folder.averaged_checkpoint)["state_dict"])
        elif self.folder.best_checkpoint.exists():
            best = read_pickle(self.folder.best_checkpoint)
            seen_last = bool(module.evaluations.get("val")) and best["global_step"] == self.trainer.global_step
            module.load_state_dict(best["state_dict"])
        tables = data.tables
        if tables["validation"]:
            if not seen_last:
                self.trainer.validate(module, datamodule=data, verbose=False)
            metrics |= {k: float(v) for k, v in self.trainer.callback_metrics.items() if k.startswith("val/")}
        if tables["test"]:
            self.trainer.test(module, datamodule=data, verbose=False)
            metrics |= {k: float(v) for k, v in self.trainer.callback_metrics.items() if k.startswith("test/")}
        return metrics

    def _result(self, metrics: Mapping[str, float]) -> dict[str, Any]:
        import torch

        from protoformer.distributed.strategy import device

        config, parts, speed = self.config, self.parts, self.throughput
        best = self._best()
        tables = parts.data.tables
        facts = {f"{role}/{split}".rstrip("/"): t.facts for role, s in tables.items() for split, t in s.items()}
        on_gpu = device(config["hardware"]) == "gpu"
        return {
            "run_id": self.folder.run_id,
            "attempt": self.folder.attempt,
            "model": config["choices"]["model"],
            "task": config["choices"]["task"],
            "family": config["choices"]["family"],
            "kind": config["task"]["kind"],
            "task_type": self._task_type(),
            "seed": config["seed"],
            "score": metrics.get("val/score"),
            "metrics": dict(metrics),
            "best": best,
            "averaged": self._averaged(),
            "notes": {
                f"{stage}/{split}".rstrip("/"): dict(found.notes)
                for stage, splits in parts.module.evaluations.items()
                for split, found in splits.items()
                if found.notes
            },
            "training": {
                "steps": self.trainer.global_step,
                "epochs": self.trainer.current_epoch,
                "seconds": round(speed.seconds, 1),
                "examples_per_s": round(speed.examples / speed.seconds, 2) if speed.seconds else None,
                "tokens_per_s": round(speed.tokens / speed.seconds, 1) if speed.seconds else None,
                "flops_per_s": round(speed.flops / speed.seconds) if speed.seconds else None,
                "mfu": round(speed.flops / speed.seconds / (self.peak * self.ranks), 4)
                if speed.seconds and self.peak
                else None,
                "wall_seconds": round(time.time() - self.begun, 1),
            },
            "parameters": sum(p.numel() for p in parts.module.parameters()),
            "data": {
                name: {word: value for word, value in fact.items() if word != "digest"} for name, fact in facts.items()
            },
            "digests": {
                "code": code_digest(),
                "data": {name: fact["digest"] for name, fact in facts.items()},
                "weights": parts.start.digest,
            },
            "init_from": parts.start.origin,
            "data_commits": getattr(parts.source, "commits", {}),
            "versions": {name: metadata.version(name) for name in VERSIONS} | {"python": platform.python_version()},
            "hardware": {
                "device": torch.cuda.get_device_name() if on_gpu else f"CPU ({torch.get_num_threads()} threads)",
                "ranks": self.ranks,
                "precision": config["hardware"]["precision"],
            },
            "command": self.command,
            "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "peak_memory_gib": round(memory.peak(on_gpu) / 2**30, 2),
        }

    def _task_type(self) -> dict[str, Any]:
        """What reports need to know of a kind of task, from its evaluations and its data."""
        evaluations = [found for splits in self.parts.module.evaluations.values() for found in splits.values()]
        return {
            "main_metrics": list(dict.fromkeys(name for found in evaluations for name in found.scores)),
            "percent_metrics": sorted({name for found in evaluations for name in found.percent_metrics}),
            "free_text": any(found.free_text for found in evaluations),
            "incomplete_data": dict(self.parts.data.incomplete_data),
        }

    def _averaged(self) -> list[int] | None:
        """Steps of the checkpoints that were averaged."""
        from protoformer.models.weights import read_pickle

        path = self.folder.averaged_checkpoint
        return list(read_pickle(path)["averaged_steps"]) if path.exists() else None

    def _best(self) -> dict[str, int] | None:
        """Step and epoch of the best checkpoint."""
        from protoformer.models.weights import read_pickle

        if not self.folder.best_checkpoint.exists():
            return None
        best = read_pickle(self.folder.best_checkpoint)
        return {"step": best["global_step"], "epoch": best["epoch"]}

    def _write(self, result: dict[str, Any]) -> None:
        """What makes a run a finished one: predictions, tokenizer, and last of all the result."""
        from protoformer.runs import predictions

        for stage, splits in self.parts.module.evaluations.items():
            for split, outputs in splits.items():
                name = f"{stage}_{split}" if split else stage
                predictions.write(self.folder.predictions, name, outputs.rows(), outputs.files())
                predictions.write_scores(self.folder.example_scores, name, outputs.rows(), outputs.example_scores())
        self.parts.tokenizer.save(self.folder.path / "tokenizer")
        self.folder.write_result(result)

    def _leave(self, loggers: list[Any]) -> list[list[Any]]:
        """What a finished run leaves besides, each where it can be had: card and views. Gives the tracker's dev mistakes."""
        with optional("card.md"):
            from protoformer.reporting.card import write_card

            write_card(self.folder.path)
        with optional("views.attention"):
            self._leave_views(loggers)
        with optional("the table of mistakes"):
            return self._mistakes()
        return []

    def _leave_views(self, loggers: list[Any]) -> None:
        if self.config["views"]["attention"]:
            from protoformer.training import attention_snapshot

            attention_snapshot.leave(self.config, self.parts, self.folder, loggers, self.trainer.global_step)

    def _mistakes(self) -> list[list[Any]]:
        """On dev, for the tracker, of a kind that has such."""
        if self.config["tracking"]["mode"] == "none":
            return []
        return [
            mistake
            for split, outputs in self.parts.module.evaluations.get("val", {}).items()
            if outputs.lists_misclassified
            for mistake in outputs.misclassified(self.parts.data.texts("validation", split))
        ]
