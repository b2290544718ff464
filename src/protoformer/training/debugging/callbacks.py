"""Callbacks of the debug modes that a config turns on."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback

from protoformer.data.datamodules.table import TableDataModule
from protoformer.errors import ConfigurationError
from protoformer.training.debugging.nonfinite import FindNonFinite
from protoformer.training.debugging.overfit import OverfitBatch, repeat_first_batch
from protoformer.training.debugging.profile import ProfileSteps


def prepare_debugging(config: Mapping[str, Any], data: TableDataModule[Any]) -> None:
    """What a debug mode changes in the training data, before they are counted.

    Raises ConfigurationError for `trainer.overfit` without a number of steps, and for a mode that has no training to look at.
    """
    modes = [name for name in ("overfit", "profile") if config["trainer"][name] is not None]
    if modes and not config["task"]["splits"].get("train"):
        raise ConfigurationError(
            f"trainer.{modes[0]}={config['trainer'][modes[0]]} is of training steps, and task={config['choices'].get('task')} "
            "trains nothing; debug=fast is a smoke test of it"
        )
    if config["trainer"]["overfit"] is None:
        return
    if config["trainer"]["max_steps"] < 1:
        raise ConfigurationError("trainer.overfit needs a number of steps: add trainer.max_steps=<n>")
    repeat_first_batch(data, config["trainer"]["max_steps"])


def check_debugging(trainer: pl.Trainer) -> None:
    """What a debug mode says of a finished training. Raises NotOverfittedError."""
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]  # set by Lightning's connector
    for callback in callbacks:
        if isinstance(callback, OverfitBatch) and callback.losses:
            callback.check(trainer.is_global_zero)


def debug_callbacks(config: Mapping[str, Any], folder: Path) -> list[Callback]:
    """Those of `trainer.overfit`, `trainer.find_nonfinite` and `trainer.profile`."""
    callbacks: list[Callback] = []
    if config["trainer"]["overfit"] is not None:
        callbacks.append(OverfitBatch(config["trainer"]["overfit"]))
    if config["trainer"]["find_nonfinite"]:
        callbacks.append(FindNonFinite(folder))
    if config["trainer"]["profile"] is not None:
        callbacks.append(ProfileSteps(folder, config["trainer"]["profile"]))
    return callbacks
