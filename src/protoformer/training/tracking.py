"""Trackers: Weights & Biases through Lightning's logger, or TensorBoard. The run folder keeps its own log in any case."""

import contextlib
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from protoformer.errors import ConfigurationError
from protoformer.runs.folder import RunFolder
from protoformer.training.optional import optional

if TYPE_CHECKING:
    from lightning.pytorch.loggers import Logger

log = logging.getLogger(__name__)
MISTAKES = 100  # rows of the table of mistakes


def tracker(config: Mapping[str, Any], folder: RunFolder) -> "Logger | None":
    """The logger that `tracking` names. `auto` is W&B: online where a key is set, else offline, and says where."""
    tracking = config["tracking"]
    mode = tracking["mode"]
    if mode == "none":
        return None
    if mode == "tensorboard":
        try:
            from lightning.pytorch.loggers import TensorBoardLogger

            return TensorBoardLogger(save_dir=folder.path, name="", version="tensorboard")
        except ModuleNotFoundError as error:
            raise ConfigurationError("tracking=tensorboard needs `pip install protoformer[tensorboard]`") from error
    return _wandb(config, folder, mode)


def has_key() -> bool:
    """Whether W&B would know who we are: an environment variable, or `wandb login` once upon a time."""
    import netrc

    if os.environ.get("WANDB_API_KEY"):
        return True
    host = os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai").split("//")[-1]
    for place in (os.environ.get("NETRC"), Path.home() / ".netrc", Path.home() / "_netrc"):
        with contextlib.suppress(OSError, netrc.NetrcParseError):
            if place and netrc.netrc(str(place)).authenticators(host) is not None:
                return True
    return False


def _wandb(config: Mapping[str, Any], folder: RunFolder, mode: str) -> "Logger":
    import wandb
    from lightning.pytorch.loggers import WandbLogger

    choices, tracking = config["choices"], config["tracking"]
    asked = os.environ.get("WANDB_MODE", "")
    offline = mode == "wandb_offline" or (mode == "auto" and (asked == "offline" or not has_key()))
    if offline and mode == "auto":
        why = "WANDB_MODE=offline" if asked == "offline" else "no W&B key is set"
        log.info("%s: tracking offline in %s (`wandb sync` sends it later)", why, folder.path / "wandb")
    # begun by ourselves: Lightning's own call uses a setting that is on its way out, and says so every time
    settings: dict[str, Any] = {
        "project": tracking["project"],
        "entity": tracking["entity"],
        "name": folder.path.name,
        "id": folder.tracker_id(),
        "group": f"{choices['model']}/{choices['task']}",
        "tags": [choices["model"], choices["task"], *tracking["tags"]],
        "config": {k: v for k, v in config.items() if k not in ("paths", "tracking")},
        "dir": str(folder.path),
        "mode": "offline" if offline else "disabled" if asked == "disabled" else "online",
        "resume": None if offline else "allow",
        "settings": wandb.Settings(silent=True, console="off"),
    }
    try:
        run = wandb.init(**settings)
    except (wandb.errors.UsageError, wandb.errors.CommError) as error:
        raise ConfigurationError(f"W&B: {error}; `wandb login` sets a key, tracking=wandb_offline needs none") from None
    run.define_metric("trainer/global_step")
    run.define_metric("*", step_metric="trainer/global_step", step_sync=True)
    return WandbLogger(experiment=run)


def log_samples(loggers: Sequence["Logger"], step: int, samples: Sequence[Sequence[str]]) -> None:
    """What a language model wrote at this step, as (prompt, text), where a tracker takes text."""
    from lightning.pytorch.loggers import TensorBoardLogger, WandbLogger

    for logger in loggers:
        if isinstance(logger, WandbLogger):
            import wandb

            rows = [[step, prompt, text] for prompt, text in samples]
            table = wandb.Table(columns=["step", "prompt", "text"], data=rows)
            logger.experiment.log({"samples": table, "trainer/global_step": step})
        elif isinstance(logger, TensorBoardLogger):
            from protoformer.reporting.tables import fenced

            for number, (prompt, text) in enumerate(samples):
                logger.experiment.add_text(f"samples/{number}", fenced(prompt + text), step)  # shown, not read as HTML


def log_pictures(loggers: Sequence["Logger"], step: int, pictures: Mapping[str, Path]) -> None:
    """PNG files, by name, where a tracker takes pictures."""
    from lightning.pytorch.loggers import TensorBoardLogger, WandbLogger

    for logger in loggers:
        if isinstance(logger, WandbLogger):
            import wandb

            images = {name: wandb.Image(str(path)) for name, path in pictures.items()}
            logger.experiment.log({**images, "trainer/global_step": step})
        elif isinstance(logger, TensorBoardLogger):
            from matplotlib.image import imread

            for name, path in pictures.items():
                logger.experiment.add_image(name, imread(path), step, dataformats="HWC")


def finish(logger: "Logger | None", summary: Mapping[str, Any], mistakes: list[list[Any]], exit_code: int) -> None:
    """The best dev metrics, a table of mistakes, and the end of the tracked run with the run's own exit code.

    What a tracker does not take is told in the log: the run has its result, or an error of its own.
    """
    from lightning.pytorch.loggers import TensorBoardLogger, WandbLogger

    if isinstance(logger, TensorBoardLogger):
        with optional("the end of the tracked run"):
            logger.finalize("success" if exit_code == 0 else "failed")
    if not isinstance(logger, WandbLogger):
        return
    import wandb

    run = logger.experiment
    with optional("the tracker's summary"):
        for key, value in summary.items():
            run.summary[f"best/{key}"] = value
    if mistakes:
        with optional("the tracker's table of mistakes"):
            columns: list[str | int] = ["text", "gold", "predicted", "probability"]
            run.log({"mistakes": wandb.Table(columns=columns, data=mistakes[:MISTAKES])})
    with optional("the end of the tracked run"):
        run.finish(exit_code=exit_code)
