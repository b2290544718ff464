"""SaveRngState: every rank's random number generators in every checkpoint."""

import logging
import random
from collections.abc import Mapping
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback

log = logging.getLogger(__name__)


def random_state() -> dict[str, Any]:
    """The states of this process's generators, as plain containers and tensors."""
    version, internal_state, gauss_next = random.getstate()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_initialized() else None,
        "python": [version, list(internal_state), gauss_next],
    }


def set_random_state(state: Mapping[str, Any]) -> None:
    """Set the generators back to what `random_state` returned."""
    torch.set_rng_state(state["torch"])
    if state["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])
    version, internal_state, gauss_next = state["python"]
    random.setstate((version, tuple(internal_state), gauss_next))


class SaveRngState(Callback):
    """Saves and restores the states of torch's and Python's generators, so that a continued run draws the same dropout
    masks. Saving a checkpoint is a collective: the states of all ranks are gathered."""

    def __init__(self) -> None:
        self.loaded: list[dict[str, Any]] | None = None  # one state a rank, from the checkpoint that is continued

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, object]
    ) -> None:
        state = random_state()
        states: list[object] = [state]
        if trainer.world_size > 1:
            states = [None] * trainer.world_size
            torch.distributed.all_gather_object(states, state)
        checkpoint["random_state"] = states

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        self.loaded = checkpoint.get("random_state")

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Restore as late as possible: set-up and sanity check draw random numbers too."""
        if self.loaded is None:
            return
        if len(self.loaded) != trainer.world_size:
            log.info(
                "continuing on %d processes instead of %d: dropout masks differ from here on",
                trainer.world_size,
                len(self.loaded),
            )
            return
        state, self.loaded = self.loaded[trainer.global_rank], None
        set_random_state(state)
