"""Trackers: Weights & Biases through Lightning's logger, or TensorBoard. The run folder has its own log in any case."""

import contextlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger, TensorBoardLogger

from protoformer.errors import ConfigurationError
from protoformer.modules.evaluation import Misclassified
from protoformer.reporting.tables import fenced
from protoformer.runs.folder import RunFolder
from protoformer.runs.metrics import read_metrics
from protoformer.training.best_effort import KeepGoing, best_effort
from protoformer.training.trackers import wandb_environment
from protoformer.training.trackers.wandb_logger import RowLogger, build_wandb_logger, folders_in, remove_leftovers

log = logging.getLogger(__name__)
MAX_MISCLASSIFIED = 100  # rows of the table of misclassified examples


class GuardedTensorBoardLogger(KeepGoing, TensorBoardLogger):
    """TensorBoardLogger whose errors end the tracking and not the run."""


def build_tracker(config: Mapping[str, Any], folder: RunFolder, resumed_step: int = 0) -> Logger | None:
    """The logger of `tracking.mode` (None for `none`). `auto` is W&B: online where an API key is set, otherwise offline in a
    folder that the log names; WANDB_MODE decides where it is set. A run that continues from `resumed_step` shows no step twice.
    """
    mode = config["tracking"]["mode"]
    if mode == "none":
        return None
    if mode == "auto" and wandb_environment.mode() == "disabled":
        log.info("WANDB_MODE=disabled: no tracker")
        return None
    if mode == "tensorboard":
        try:
            return GuardedTensorBoardLogger(
                save_dir=folder.path, name="", version="tensorboard", purge_step=resumed_step + 1
            )
        except ModuleNotFoundError as error:
            raise ConfigurationError("tracking=tensorboard needs `pip install protoformer[tensorboard]`") from error
    return build_wandb_logger(config, folder)


def continue_from(logger: Logger | None, metrics_file: Path) -> None:
    """Let the tracker go on behind the lines that a run continues with."""
    if isinstance(logger, RowLogger):
        with best_effort("the tracker's earlier rows"):
            logger.continue_from(read_metrics(metrics_file) if metrics_file.exists() else ())


def log_samples(loggers: Sequence[Logger], step: int, samples: Sequence[Sequence[str]]) -> None:
    """Send what a language model generated at this step, as (prompt, text), to the trackers that show text."""
    with best_effort("samples for the tracker"):
        _log_samples(loggers, step, samples)


def _log_samples(loggers: Sequence[Logger], step: int, samples: Sequence[Sequence[str]]) -> None:
    for logger in loggers:
        if isinstance(logger, RowLogger):
            if logger.is_behind:
                continue
            import wandb  # slow, and only needed with this tracker

            rows = [[step, prompt, text] for prompt, text in samples]
            table = wandb.Table(columns=["step", "prompt", "text"], data=rows)
            logger.log_media({"samples": table}, step)
        elif isinstance(logger, TensorBoardLogger):
            for number, (prompt, text) in enumerate(samples):
                logger.experiment.add_text(f"samples/{number}", fenced(prompt + text), step)  # shown, not read as HTML


def log_images(loggers: Sequence[Logger], step: int, images: Mapping[str, Path]) -> None:
    """Send PNG files, name -> path, to the trackers that show images."""
    with best_effort("images for the tracker"):
        _log_images(loggers, step, images)


def _log_images(loggers: Sequence[Logger], step: int, images: Mapping[str, Path]) -> None:
    for logger in loggers:
        if isinstance(logger, RowLogger):
            import wandb  # slow, and only needed with this tracker

            logged = {name: wandb.Image(str(path)) for name, path in images.items()}
            logger.log_media(logged, step)
        elif isinstance(logger, TensorBoardLogger):
            from matplotlib.image import imread  # slow, and only needed with TensorBoard

            for name, path in images.items():
                logger.experiment.add_image(name, imread(path), step, dataformats="HWC")


def log_class_scores(loggers: Sequence[Logger], step: int, class_scores: Mapping[str, Mapping[str, Any]]) -> None:
    """Send the scores of each class and the confusion matrix of each split to the trackers that show tables."""
    for logger in loggers:
        if not isinstance(logger, RowLogger):
            continue
        import wandb  # slow, and only needed with this tracker

        for split, scores in class_scores.items():
            labels, numbers = list(scores["labels"]), ("precision", "recall", "f1", "references")
            of_each = [[label, *(scores[name][i] for name in numbers)] for i, label in enumerate(labels)]
            pairs = zip(labels, scores["confusion_matrix"], strict=True)
            matrix = wandb.Table(columns=["label", *labels], data=[[label, *counts] for label, counts in pairs])
            table = wandb.Table(columns=["label", *numbers], data=of_each)
            logger.log_media({f"classes/{split}": table, f"confusion_matrix/{split}": matrix}, step)


def finish(
    logger: Logger | None, summary: Mapping[str, object], misclassified: list[Misclassified], exit_code: int
) -> None:
    """Send the best dev metrics and a table of misclassified examples, and end the tracked run with the run's exit code.

    Errors of the tracker are logged and suppressed: the run has a result, or an error of its own.
    """
    if isinstance(logger, TensorBoardLogger):
        with best_effort("the end of the tracked run"):
            logger.finalize("success" if exit_code == 0 else "failed")
    if not isinstance(logger, RowLogger):
        return
    run = logger.experiment
    with best_effort("the tracker's summary"):
        for key, value in summary.items():
            run.summary[f"best/{key}"] = value
    if misclassified:
        with best_effort("the tracker's table of misclassified examples"):
            import wandb  # slow, and only needed with this tracker

            columns: list[str | int] = ["text", "gold", "predicted", "probability"]
            logger.log_media({"mistakes": wandb.Table(columns=columns, data=misclassified[:MAX_MISCLASSIFIED])})
    with best_effort("the end of the tracked run"):
        run.finish(exit_code=exit_code)


@dataclass
class TrackedRun:
    """A run's logger (None: no tracker), and what is sent to it at the end."""

    logger: Logger | None
    summary: Mapping[str, float] = field(default_factory=dict)
    misclassified: list[Misclassified] = field(default_factory=list)


@contextlib.contextmanager
def tracked_run(config: Mapping[str, object], folder: RunFolder, resumed_step: int) -> Iterator[TrackedRun]:
    """Open the tracker for the block, and finish the tracked run at its end, also after an exception."""
    remove_leftovers(folder.path / "wandb")
    run = TrackedRun(build_tracker(config, folder, resumed_step))
    exit_code = 1
    try:
        with folders_in(folder.path / "wandb"):
            yield run
        exit_code = 0
    except BaseException as error:  # also Ctrl-C: the tracked run ends with the exit code
        exit_code = getattr(error, "exit_code", 1)
        raise
    finally:
        with folders_in(folder.path / "wandb"):
            finish(run.logger, run.summary, run.misclassified, exit_code)
        remove_leftovers(folder.path / "wandb")
