"""What ended a training, for `result.json`."""

from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback

from protoformer.training.limits.early_stopping import StopEarly
from protoformer.training.limits.max_time import KeepTime


def ending(trainer: pl.Trainer) -> dict[str, Any]:
    """`ended_by` is `steps` (or epochs), `max_time` or `early_stopping`; of a run with a limit of time also its seconds of
    training, validations and checkpoints included."""
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]  # set by Lightning's connector
    stopped_early = any(isinstance(each, StopEarly) and each.has_stopped for each in callbacks)
    clock = next((each.clock for each in callbacks if isinstance(each, KeepTime)), None)
    ended_by = "early_stopping" if stopped_early else "max_time" if clock is not None and clock.is_over else "steps"
    time = {} if clock is None else {"max_time_seconds": clock.max_seconds, "time_seconds": round(clock.seconds, 1)}
    return {"stopped_early": stopped_early, "ended_by": ended_by, **time}
