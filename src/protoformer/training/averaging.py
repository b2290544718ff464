"""The mean of a run's last checkpoints (arXiv 1706.03762, section 6.1), which the run is evaluated with and known by.

While it is trained, snapshots of its weights stand in `checkpoints/snapshots`, as many as are to be averaged. At its end their
mean is written as `checkpoints/averaged.ckpt`, and they are removed.
"""

import logging
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from protoformer.errors import RunFolderError
from protoformer.models.weights import State, read_pickle
from protoformer.training.checkpoint_io import AtomicCheckpointIO

log = logging.getLogger(__name__)


class SaveSnapshots(Callback):
    """The weights after every `every` optimizer steps (None: after each validation) and after the last step; the last `count`
    of them stay. A run that goes on drops those of steps that it takes again."""

    def __init__(self, folder: Path, count: int, every: int | None) -> None:
        self.folder, self.count, self.every = folder, count, every

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.is_global_zero:
            for path in snapshots(self.folder):
                if step_of(path) > trainer.global_step:
                    path.unlink()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.fit_loop._should_accumulate():
            return
        total = getattr(pl_module, "total_steps", None)
        if trainer.global_step == total or (self.every and trainer.global_step % self.every == 0):
            self._keep(trainer, pl_module)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.state.fn == "fit" and not trainer.sanity_checking and self.every is None:
            self._keep(trainer, pl_module)

    def _keep(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        step = trainer.global_step
        content = {"state_dict": pl_module.state_dict(), "global_step": step}
        AtomicCheckpointIO().save_checkpoint(content, self.folder / f"step-{step:09d}.ckpt")
        for path in snapshots(self.folder)[: -self.count]:
            path.unlink()


def snapshots(folder: Path) -> list[Path]:
    """In order of their steps."""
    return sorted(folder.glob("step-*.ckpt"))


def step_of(path: Path) -> int:
    return int(path.stem.removeprefix("step-"))


def average(folder: Path, target: Path) -> list[int]:
    """Write the mean of all snapshots of `folder` as a checkpoint, and remove them; gives their steps.

    Where there are none, `target` stands already (the run was stopped after it was written): else RunFolderError.
    """
    paths = snapshots(folder)
    if not paths:
        if not target.exists():
            raise RunFolderError(f"{folder}: no snapshots to average; force=true runs anew")
        return list(read_pickle(target)["averaged_steps"])
    steps = [step_of(path) for path in paths]
    content = {"state_dict": mean(paths), "global_step": steps[-1], "averaged_steps": steps}
    AtomicCheckpointIO().save_checkpoint(content, target)
    shutil.rmtree(folder)
    log.info("averaged %d checkpoints, of steps %s", len(steps), ", ".join(map(str, steps)))
    return steps


def mean(paths: Sequence[Path]) -> State:
    """Tensor by tensor, summed in double precision; what is no floating-point number is the last one's."""
    totals: dict[str, Tensor] = {}
    last: State = {}
    for path in paths:
        last = read_pickle(path)["state_dict"]
        for name, tensor in last.items():
            totals[name] = tensor.double() + totals[name] if name in totals else tensor.double()
    return {
        name: (totals[name] / len(paths)).to(tensor.dtype) if torch.is_floating_point(tensor) else tensor
        for name, tensor in last.items()
    }
