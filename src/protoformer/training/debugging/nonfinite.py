"""Find the module that made the first non-finite value (`debug=nan`)."""

import logging
import random
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback

from protoformer.atomic import write_text
from protoformer.distributed.sharding.units import local_tensors
from protoformer.errors import DivergedError
from protoformer.modules.task_module import TaskModule
from protoformer.training.debugging.watch import NonFinite, Watch

log = logging.getLogger(__name__)
MAX_IDS = 8  # example ids in the one line; the file has all


class FindNonFinite(Callback):
    """When a run ends with DivergedError, its last step is computed once more with every module watched, uncompiled, and the
    error says where the first non-finite value came from. `nan.txt` in the run folder has the details.

    The step's micro-batches and the random numbers at its begin are kept for that; its weights are what they were, since they
    are not touched. Until then nothing is watched, and steps are as fast as ever. Every rank computes its own part; the first
    one's error says what any of them has found.
    """

    def __init__(self, folder: Path) -> None:
        self.file = folder / "nan.txt"
        self.batches: list[tuple[Any, int]] = []  # of the step that is under way
        self.random_state: tuple[Any, Any, Any] | None = None

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if batch_idx % trainer.accumulate_grad_batches == 0:
            self.batches = []
            cuda = torch.cuda.get_rng_state() if torch.cuda.is_initialized() else None
            self.random_state = (torch.get_rng_state(), cuda, random.getstate())
        self.batches.append((batch, batch_idx))

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        if not isinstance(exception, DivergedError) or not isinstance(pl_module, TaskModule):
            return
        pl_module.zero_grad(set_to_none=True)
        named = dict(pl_module.named_parameters())
        parts = zip(named, local_tensors(list(named.values())), strict=True)
        weights = [name for name, part in parts if not part.isfinite().all()]
        if weights:
            more = f" and {len(weights) - 1} more" if len(weights) > 1 else ""
            finding: str | None = f"weights that are not finite: {weights[0]}{more}"
        else:
            finding = self._search(trainer, pl_module)
        of_ranks: list[Any] = [finding]
        if trainer.world_size > 1:
            of_ranks = [None] * trainer.world_size
            torch.distributed.all_gather_object(of_ranks, finding)
        texts = [
            f"{text} (rank {rank})" if trainer.world_size > 1 else text for rank, text in enumerate(of_ranks) if text
        ]
        first = texts[0] if texts else "not reproduced when the step was computed again, without torch.compile"
        exception.args = (f"{exception}; debug=nan: {first}",)
        if trainer.is_global_zero:
            write_text(self.file, "\n".join([f"step {trainer.global_step}", *texts]) + "\n")

    def _search(self, trainer: pl.Trainer, module: TaskModule) -> str | None:
        """What of this rank's micro-batches was not finite first."""
        if self.random_state is None:
            return None
        torch_state, cuda, python = self.random_state
        torch.set_rng_state(torch_state)
        if cuda is not None:
            torch.cuda.set_rng_state(cuda)
        random.setstate(python)
        for batch, batch_idx in self.batches:
            watch = Watch(module, len(batch["example_ids"]))
            with watch.watching(), torch.enable_grad():
                with trainer.precision_plugin.train_step_context():
                    loss = module.training_step(batch, batch_idx)
                watch.check_loss(loss)
                loss.backward()  # also where something is found: sharded ranks wait for each other
            if watch.first is not None:
                return _description(watch.first, batch)
        return None


def _description(finding: NonFinite, batch: Any) -> str:
    """A finding with the ids of the examples that it is of."""
    ids = batch["example_ids"].tolist()
    chosen = [ids[row] for row in finding.rows] if finding.rows else ids
    chosen = [each for each in chosen if each >= 0]
    shown = ", ".join(map(str, chosen[:MAX_IDS])) + (
        f" and {len(chosen) - MAX_IDS} more" if len(chosen) > MAX_IDS else ""
    )
    return f"first {finding}; examples {shown}"
