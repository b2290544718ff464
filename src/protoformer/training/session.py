"""TrainingSession: one rank's run, from a config to a result."""

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import Logger
from lightning.pytorch.trainer.states import RunningStage

from protoformer.assembly.build import build, check_tables
from protoformer.assembly.probes import build_probes
from protoformer.blocks.stacks import recompute_activations
from protoformer.distributed.backends import configure_backends
from protoformer.distributed.collectives import rank0_first, wait_for_all_ranks
from protoformer.distributed.devices import faster_precision, peak_flops, rank_device_index
from protoformer.distributed.memory import memory_advice
from protoformer.distributed.sharding.units import check_shardable, full_weights
from protoformer.distributed.signals import StopRequest
from protoformer.distributed.strategy import resolve_accelerator, shards
from protoformer.models.backbone import compile_layers
from protoformer.reporting import card, head, results
from protoformer.runs.folder import RunFolder
from protoformer.training.best_effort import best_effort
from protoformer.training.callbacks.averaging import SaveSnapshots, average
from protoformer.training.callbacks.checkpointing import SaveBestCheckpoint
from protoformer.training.callbacks.data_map import RecordDataMap
from protoformer.training.callbacks.probes import ScoreProbes
from protoformer.training.callbacks.samples import LogSamples
from protoformer.training.callbacks.stop_in_evaluation import StopInEvaluation
from protoformer.training.callbacks.throughput import Throughput
from protoformer.training.callbacks.user import build_callbacks
from protoformer.training.checkpoints import check_fits, drop_states, read_header
from protoformer.training.connection import connect, has_training_split
from protoformer.training.debugging.callbacks import check_debugging, debug_callbacks, prepare_debugging
from protoformer.training.device_fit import fit_to_device, out_of_memory_advice
from protoformer.training.evaluation import evaluate, keep_evaluated_batches
from protoformer.training.lightning_internals import keep_own_signal_handlers
from protoformer.training.limits import micro_batch
from protoformer.training.limits.early_stopping import StopEarly
from protoformer.training.limits.max_time import KeepTime, training_clock
from protoformer.training.metrics_log import MetricsLog
from protoformer.training.results import attention_page, data_map, record
from protoformer.training.results.result import (
    best_checkpoint,
    hardware_stats,
    peak_memory_gib,
    probe_results,
    run_result,
    training_stats,
)
from protoformer.training.trackers import tracking
from protoformer.training.trainer import build_trainer

log = logging.getLogger(__name__)
STAGE_NAMES = {
    RunningStage.TRAINING: "training",
    RunningStage.VALIDATING: "validation",
    RunningStage.TESTING: "evaluation",
}


class TrainingSession:
    """Builds the parts of a run, then fits, averages checkpoints, evaluates and records (`run`).

    Every rank has one and takes the same steps; rank 0 alone writes files and talks to the tracker. A run folder with a
    `last.ckpt` is continued from there.
    """

    def __init__(
        self, config: dict[str, Any], folder: RunFolder, command: str, rank: int, ranks: int, stop: StopRequest
    ) -> None:
        self.config, self.folder, self.command, self.rank, self.ranks = config, folder, command, rank, ranks
        self.stop, self.started_at = stop, time.time()
        self.is_resuming = folder.last_checkpoint.exists()
        hardware = config["hardware"]
        self.accelerator = resolve_accelerator(hardware)
        configure_backends(hardware["precision"], self.accelerator)
        # initial weights are the same on every rank; what is drawn after them (dropout) differs by rank
        pl.seed_everything(config["seed"], verbose=False)
        self.parts = build(config, rank=rank, ranks=ranks, initialise=not self.is_resuming)
        self.shards = shards(config, ranks)
        if self.shards:
            check_shardable(self.parts.module, hardware["precision"], config["recipe"].get("optimizer", "adamw"))
        self.probes = build_probes(self.parts.model.in_config(self.parts.config), self.parts, rank=rank, ranks=ranks)
        config = self.config = self.parts.config  # with what the data says, such as its labels
        micro_batch.take_over(self.parts, config, folder)
        fit_to_device(self.parts, self.accelerator)
        pl.seed_everything((config["seed"] + rank) % 2**32, verbose=False)  # the range of seeds
        self.throughput = Throughput(config["trainer"]["log_every"], peak_flops(hardware, self.accelerator))
        self.clock = training_clock(config)
        self.metrics_log = MetricsLog(folder.path)
        self.built_config = self.parts.model.in_config(config)
        if rank == 0:
            folder.write_config(self.built_config)

    def run(self) -> dict[str, Any]:
        """Run all stages and return the result.

        Raises InterruptedRunError after a request to stop, DivergedError when loss or weights are not finite, and
        DeviceMemoryError when a batch does not fit: MicroBatchError where a start with less of it goes on.
        """
        with memory_advice(self._memory_advice):
            return self._run_stages()

    def position(self) -> str:
        """Where in the run this rank is, for one line."""
        trainer = getattr(self, "trainer", None)
        if trainer is None or trainer.state.stage is None:
            return "outside of training and evaluation"
        stage = trainer.state.stage
        return f"in the {STAGE_NAMES.get(stage, stage.value)} at step {trainer.global_step}"

    def _memory_advice(self) -> str:
        module, batch = self.parts.module, self.parts.data.batch_config
        return out_of_memory_advice(batch, module.training, self.config["hardware"]["precision"])

    def _run_stages(self) -> dict[str, Any]:
        with self._tracked() as tracked_run:
            self.stop.check()
            rank0_first(self.parts.data.setup)  # the first rank of a machine tokenises, the others find the cache
            self.stop.check()
            check_tables(self.parts)
            for probe in self.probes:
                rank0_first(probe.setup)
            self._advise_precision()  # after all that may be refused: an error is one line
            self.trainer = self._build_trainer(tracked_run.logger)
            self._continue_logs(tracked_run.logger)
            self._fit()
            check_debugging(self.trainer)
            self._average_checkpoints()
            if self.stop.requested:  # during the last step: what is left is the evaluation
                raise self.stop.grant(self.trainer.global_step)
            metrics = evaluate(self.trainer, self.parts, self.folder)
            result = self._result(metrics)
            if (warning := results.average_warning(result)) is not None and self.rank == 0:
                log.warning("%s", warning)
            with ExitStack() as whole:
                if self.config["views"]["attention"]:  # rank 0 alone computes the page
                    whole.enter_context(full_weights(self.parts.module))
                if self.rank == 0:
                    self._write_results(result, tracked_run)
            tracked_run.summary = metrics
            wait_for_all_ranks()  # none ends while the first one writes, and none is asked to stop alone
            return result

    def _write_results(self, result: dict[str, Any], tracked_run: tracking.TrackedRun) -> None:
        """Everything that a finished run leaves, the result first; what follows it no finished run needs."""
        data_map.write_data_map(self.trainer, self.parts, self.folder)
        record.write_run(self.folder, self.parts, result)
        with best_effort("dropping the optimizer's state"):
            drop_states(self.folder, keep_last=self.config["trainer"]["keep_optimizer"])
        self._write_extras(self.trainer.loggers)
        with best_effort("the tracker's tables of classes"):
            tracking.log_class_scores(self.trainer.loggers, self.trainer.global_step, result["class_scores"])
        with best_effort("the table of misclassified examples"):
            tracked_run.misclassified = record.misclassified(self.config, self.parts)

    def _advise_precision(self) -> None:
        if self.accelerator != "gpu":
            return
        name = torch.cuda.get_device_name(rank_device_index())
        advice = faster_precision(self.config["hardware"]["precision"], name, torch.cuda.is_bf16_supported(False))
        if advice is not None:
            log.info("%s", advice)

    @property
    def _resumed_step(self) -> int:
        return read_header(self.folder.last_checkpoint).global_step if self.is_resuming else 0

    @contextmanager
    def _tracked(self) -> Iterator[tracking.TrackedRun]:
        if self.rank != 0:
            yield tracking.TrackedRun(None)
            return
        with tracking.tracked_run(self.built_config, self.folder, self._resumed_step) as tracked_run:
            yield tracked_run

    def _build_trainer(self, tracker: Logger | None) -> pl.Trainer:
        """The trainer, with the module connected to it."""
        prepare_debugging(self.config, self.parts.data)
        limits = connect(self.parts, self.config, self.stop, self.clock)
        if self.parts.module.resumes_evaluation:
            keep_evaluated_batches(self.parts, self.config, self.folder, self.rank)
        trainer = build_trainer(
            self.config,
            self.folder,
            [self.metrics_log, *([tracker] if tracker else [])],
            self.throughput,
            ranks=self.ranks,
            accumulation=self.parts.data.batch_config.accumulation,
            limits=limits,
            extra_callbacks=self._callbacks(),
        )
        keep_own_signal_handlers(trainer)
        if self.rank == 0:
            print(self._size_line(), flush=True)
        return trainer

    def _size_line(self) -> str:
        parameters = list(self.parts.module.parameters())
        recipe = self.config["recipe"]
        return head.size_line(
            sum(p.numel() for p in parameters),
            sum(p.numel() for p in parameters if p.requires_grad),
            (self.parts.module.total_steps or 0) if has_training_split(self.config) else 0,
            recipe["max_time"] if has_training_split(self.config) else None,
            recipe["batch_size"],
            "tokens" if recipe["batching"] == "tokens" else "rows",
        )

    def _callbacks(self) -> list[Callback]:
        """Callbacks that the recipe asks for, and the user's own."""
        recipe = self.config["recipe"]
        callbacks: list[Callback] = [LogSamples(self.folder.path), StopInEvaluation(self.stop)]
        if self.probes:
            callbacks.append(ScoreProbes(self.probes, self.config["task"]["probe_every"], self.throughput))
        if self.config["views"]["data_map"]:
            callbacks.append(RecordDataMap(self.parts.data, self.throughput))
        if recipe["average"] > 1:
            callbacks.append(SaveSnapshots(self._snapshots_folder, recipe["average"], recipe["average_every"]))
        if self.clock is not None:
            callbacks.append(KeepTime(self.clock))
        if recipe["early_stopping"]["patience"] is not None:
            callbacks.append(StopEarly(**recipe["early_stopping"]))
        return [*callbacks, *debug_callbacks(self.config, self.folder.path), *build_callbacks(self.config)]

    @property
    def _snapshots_folder(self) -> Path:
        return self.folder.checkpoints / "snapshots"

    def _continue_logs(self, tracker: Logger | None) -> None:
        """Let metrics.jsonl and the tracker go on from the last checkpoint, or begin anew."""
        if self.is_resuming:
            header = read_header(self.folder.last_checkpoint)
            check_fits(self.folder.last_checkpoint, self.parts.module)
            self.metrics_log.truncate(header.global_step, header.logged_lines)
            log.info("continuing from step %d (%s)", header.global_step, self.folder.last_checkpoint)
        else:
            self.metrics_log.truncate(0, 0)  # what a run logged that ended before its first checkpoint is logged again
        tracking.continue_from(tracker, self.metrics_log.file)

    def _fit(self) -> None:
        """Train, from the last checkpoint where there is one; a task without a training split is only tested."""
        last = self.folder.last_checkpoint if self.is_resuming else None
        if not has_training_split(self.config):
            return
        if self.config["hardware"]["compile"]:
            compile_layers(self.parts.module.backbone)
        if self.config["hardware"]["checkpoint_activations"]:
            recompute_activations(self.parts.module.backbone)
        with micro_batch.halving(self.parts, self.config, self.folder, self.trainer):
            self.trainer.fit(self.parts.module, datamodule=self.parts.data, ckpt_path=last, weights_only=True)

    def _average_checkpoints(self) -> None:
        """Write the mean of the last checkpoints, where the recipe asks for it, and a moving average that no validation has
        saved."""
        if not has_training_split(self.config) or self.stop.requested:
            return
        if self.config["recipe"]["ema"] is not None and not self.folder.best_checkpoint.exists():
            (best,) = (each for each in self.trainer.checkpoint_callbacks if isinstance(each, SaveBestCheckpoint))
            best.save(self.trainer)
        if self.config["recipe"]["average"] > 1:
            if self.rank == 0:
                average(self._snapshots_folder, self.folder.averaged_checkpoint, self.config["recipe"]["average"])
            self.trainer.strategy.barrier()

    def _result(self, metrics: dict[str, float]) -> dict[str, Any]:
        hardware = self.config["hardware"]
        return run_result(
            self.config,
            self.folder,
            self.parts,
            metrics,
            training=training_stats(
                self.trainer, self.throughput, time.time() - self.started_at, self.parts.module.skipped_steps
            ),
            best=best_checkpoint(self.folder, self.trainer),
            hardware=hardware_stats(hardware, self.ranks),
            command=self.command,
            **probe_results(self.trainer, self.metrics_log.file),
            peak_memory_gib=peak_memory_gib(hardware),
        )

    def _write_extras(self, loggers: Sequence[Logger]) -> None:
        """Write the card and the attention page, neither of which a finished run needs."""
        with best_effort("card.md"):
            card.write_card(self.folder.path)
        if self.config["views"]["attention"]:
            with best_effort("views.attention"):
                attention_page.write_attention_page(
                    self.config, self.parts, self.folder, loggers, self.trainer.global_step
                )
