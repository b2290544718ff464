"""Trackers: Weights & Biases through Lightning's logger, or TensorBoard. The run folder has its own log in any case."""

import contextlib
import logging
import netrc
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger

from protoformer.errors import ConfigurationError
from protoformer.modules.evaluation import Misclassified
from protoformer.reporting.tables import fenced
from protoformer.runs.folder import RunFolder
from protoformer.training import wandb_environment
from protoformer.training.best_effort import best_effort

log = logging.getLogger(__name__)
MAX_MISCLASSIFIED = 100  # rows of the table of misclassified examples


def build_tracker(config: Mapping[str, Any], folder: RunFolder) -> Logger | None:
    """The logger of `tracking.mode` (None for `none`). `auto` is W&B: online where an API key is set, otherwise offline in a
    folder that the log names; WANDB_MODE decides where it is set."""
    mode = config["tracking"]["mode"]
    if mode == "none":
        return None
    if mode == "auto" and wandb_environment.mode() == "disabled":
        log.info("WANDB_MODE=disabled: no tracker")
        return None
    if mode == "tensorboard":
        try:
            return TensorBoardLogger(save_dir=folder.path, name="", version="tensorboard")
        except ModuleNotFoundError as error:
            raise ConfigurationError("tracking=tensorboard needs `pip install protoformer[tensorboard]`") from error
    return _wandb_logger(config, folder, mode)


def has_api_key() -> bool:
    """Whether W&B has an API key: in the environment, or in a netrc file, where `wandb login` writes it."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai").split("//")[-1]
    for file in (os.environ.get("NETRC"), Path.home() / ".netrc", Path.home() / "_netrc"):
        with contextlib.suppress(OSError, netrc.NetrcParseError):
            if file and netrc.netrc(str(file)).authenticators(host) is not None:
                return True
    return False


def _wandb_logger(config: Mapping[str, Any], folder: RunFolder, mode: str) -> Logger:
    import wandb  # slow, and only needed with this tracker

    choices, tracking = config["choices"], config["tracking"]
    requested_mode = wandb_environment.mode()
    no_key = requested_mode != "online" and not has_api_key()
    offline = mode == "wandb_offline" or (mode == "auto" and (requested_mode == "offline" or no_key))
    if offline and mode == "auto":
        reason = "WANDB_MODE=offline" if requested_mode == "offline" else "no W&B key is set"
        log.info("%s: tracking offline in %s (`wandb sync` uploads it later)", reason, folder.path / "wandb")
    # not by WandbLogger: its call uses a deprecated setting and warns about it every time
    settings: dict[str, Any] = {
        "project": tracking["project"],
        "entity": tracking["entity"],
        "name": folder.path.name,
        "id": folder.tracker_id(),
        "group": f"{choices['model']}/{choices['task']}",
        "tags": [choices["model"], choices["task"], *tracking["tags"]],
        "config": {k: v for k, v in config.items() if k not in ("paths", "tracking")},
        "dir": str(folder.path),
        "mode": "offline" if offline else "disabled" if requested_mode == "disabled" else "online",
        "resume": None if offline else "allow",
        "settings": wandb.Settings(silent=True, console="off"),
    }
    settings |= wandb_environment.settings(choices.get("set", ()), settings["tags"])
    try:
        run = wandb.init(**settings)
    except (wandb.errors.UsageError, wandb.errors.CommError) as error:
        raise ConfigurationError(f"W&B: {error}; `wandb login` sets a key, tracking=wandb_offline needs none") from None
    run.define_metric("trainer/global_step")
    run.define_metric("*", step_metric="trainer/global_step", step_sync=True)
    return WandbLogger(experiment=run)


def log_samples(loggers: Sequence[Logger], step: int, samples: Sequence[Sequence[str]]) -> None:
    """Send what a language model generated at this step, as (prompt, text), to the trackers that show text."""
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            import wandb  # slow, and only needed with this tracker

            rows = [[step, prompt, text] for prompt, text in samples]
            table = wandb.Table(columns=["step", "prompt", "text"], data=rows)
            logger.experiment.log({"samples": table, "trainer/global_step": step})
        elif isinstance(logger, TensorBoardLogger):
            for number, (prompt, text) in enumerate(samples):
                logger.experiment.add_text(f"samples/{number}", fenced(prompt + text), step)  # shown, not read as HTML


def log_images(loggers: Sequence[Logger], step: int, images: Mapping[str, Path]) -> None:
    """Send PNG files, name -> path, to the trackers that show images."""
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            import wandb  # slow, and only needed with this tracker

            logged = {name: wandb.Image(str(path)) for name, path in images.items()}
            logger.experiment.log({**logged, "trainer/global_step": step})
        elif isinstance(logger, TensorBoardLogger):
            from matplotlib.image import imread  # slow, and only needed with TensorBoard

            for name, path in images.items():
                logger.experiment.add_image(name, imread(path), step, dataformats="HWC")


def finish(
    logger: Logger | None, summary: Mapping[str, Any], misclassified: list[Misclassified], exit_code: int
) -> None:
    """Send the best dev metrics and a table of misclassified examples, and end the tracked run with the run's exit code.

    Errors of the tracker are logged and suppressed: the run has a result, or an error of its own.
    """
    if isinstance(logger, TensorBoardLogger):
        with best_effort("the end of the tracked run"):
            logger.finalize("success" if exit_code == 0 else "failed")
    if not isinstance(logger, WandbLogger):
        return
    import wandb  # slow, and only needed with this tracker

    run = logger.experiment
    with best_effort("the tracker's summary"):
        for key, value in summary.items():
            run.summary[f"best/{key}"] = value
    if misclassified:
        with best_effort("the tracker's table of misclassified examples"):
            columns: list[str | int] = ["text", "gold", "predicted", "probability"]
            run.log({"mistakes": wandb.Table(columns=columns, data=misclassified[:MAX_MISCLASSIFIED])})
    with best_effort("the end of the tracked run"):
        run.finish(exit_code=exit_code)


@dataclass
class TrackedRun:
    """A run's logger (None: no tracker), and what is sent to it at the end."""

    logger: Logger | None
    summary: Mapping[str, float] = field(default_factory=dict)
    misclassified: list[Misclassified] = field(default_factory=list)


@contextlib.contextmanager
def tracked_run(config: Mapping[str, Any], folder: RunFolder) -> Iterator[TrackedRun]:
    """Open the tracker for the block, and finish the tracked run at its end, also after an exception."""
    run = TrackedRun(build_tracker(config, folder))
    exit_code = 1
    try:
        yield run
        exit_code = 0
    except BaseException as error:  # also Ctrl-C: the tracked run ends with the exit code
        exit_code = getattr(error, "exit_code", 1)
        raise
    finally:
        finish(run.logger, run.summary, run.misclassified, exit_code)
