"""Checkpoint averaging: the mean of a run's last checkpoints (arXiv 1706.03762, section 6.1), with which it is evaluated.

While the run trains, snapshots of its weights stand in `checkpoints/snapshots`, as many as are to be averaged. At its end
their mean is written as `checkpoints/averaged.ckpt`; from then on the snapshots are not read again, and are removed.
"""

import logging
import shutil
from collections.abc import Sequence
from pathlib import Path

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from protoformer.errors import RunFolderError
from protoformer.models.weights import StateDict
from protoformer.training.checkpoints import collect_state_dict, read_checkpoint, read_header, write_checkpoint
from protoformer.training.lightning_internals import is_accumulating

log = logging.getLogger(__name__)


class SaveSnapshots(Callback):
    """Saves the weights every `every_n_steps` optimizer steps (None: after each validation) and after the last step, and keeps
    the last `count` snapshots. A continued run removes the snapshots of later steps than it continues from."""

    def __init__(self, folder: Path, count: int, every_n_steps: int | None) -> None:
        self.folder, self.count, self.every_n_steps = folder, count, every_n_steps
        self.has_trained, self.saved_at_step = False, -1  # in this process, on every rank

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.is_global_zero:
            for path in snapshots(self.folder):
                if step_of(path) > trainer.global_step:
                    path.unlink()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        if is_accumulating(trainer):
            return
        self.has_trained = True
        is_last = pl_module.is_over(trainer.global_step)  # type: ignore[operator]  # a TaskModule
        if is_last or (self.every_n_steps and trainer.global_step % self.every_n_steps == 0):
            self._save(trainer)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.state.fn == "fit" and not trainer.sanity_checking and self.every_n_steps is None:
            self._save(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """A run that is stopped early may end without a snapshot of its last step."""
        if self.has_trained and self.saved_at_step != trainer.global_step:
            self._save(trainer)

    def _save(self, trainer: pl.Trainer) -> None:
        state_dict = collect_state_dict(trainer)  # on every rank
        self.saved_at_step = trainer.global_step
        if not trainer.is_global_zero:
            return
        step = trainer.global_step
        write_checkpoint({"state_dict": state_dict, "global_step": step}, self.folder / f"step-{step:09d}.ckpt")
        for path in snapshots(self.folder)[: -self.count]:
            path.unlink()


def snapshots(folder: Path) -> list[Path]:
    """Files of snapshots, in order of their steps."""
    return sorted(folder.glob("step-*.ckpt"))


def step_of(path: Path) -> int:
    """The optimizer step of a snapshot, by its name."""
    return int(path.stem.removeprefix("step-"))


def average(folder: Path, target: Path, count: int) -> list[int]:
    """Write the mean of the last `count` snapshots in `folder` as a checkpoint, and remove all; returns their steps.

    A `target` of which every snapshot that is left was a part is finished: the run was stopped while they were removed, and
    they are not averaged again. Raises RunFolderError without either.
    """
    paths = snapshots(folder)[-count:]
    steps = [step_of(path) for path in paths]
    averaged = read_header(target).averaged_steps or [] if target.exists() else []
    if averaged and set(steps) <= set(averaged):
        shutil.rmtree(folder, ignore_errors=True)
        return averaged
    if not paths:
        raise RunFolderError(f"{folder}: no snapshots to average; force=true starts a new attempt")
    write_checkpoint({"state_dict": mean(paths), "global_step": steps[-1], "averaged_steps": steps}, target)
    shutil.rmtree(folder)
    log.info("averaged %d checkpoints, from steps %s", len(steps), ", ".join(map(str, steps)))
    return steps


def mean(paths: Sequence[Path]) -> StateDict:
    """The mean of each tensor over the checkpoints, summed in double precision; an integer tensor is that of the last one."""
    totals: dict[str, Tensor] = {}
    last: StateDict = {}
    for path in paths:
        last = read_checkpoint(path)["state_dict"]
        for name, tensor in last.items():
            totals[name] = tensor.double() + totals[name] if name in totals else tensor.double()
    return {
        name: (totals[name] / len(paths)).to(tensor.dtype) if torch.is_floating_point(tensor) else tensor
        for name, tensor in last.items()
    }
