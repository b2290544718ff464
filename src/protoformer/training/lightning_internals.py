"""Lightning's private members: every use in the package, each behind a function that says why it is needed.

Lightning is pinned to one minor version in pyproject.toml; `tests/training/test_lightning_internals.py` fails when an
upgrade renames one of these members or changes what it means.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.loops.progress import _ProcessedTracker


def is_accumulating(trainer: pl.Trainer) -> bool:
    """Whether the micro-batch that has just ended was not the last one of its optimizer step.

    `global_step` alone cannot say: it keeps its value through all micro-batches of the next step.
    """
    return trainer.fit_loop._should_accumulate()


def validation_or_end_follows(trainer: pl.Trainer) -> bool:
    """Whether Lightning validates, or ends the epoch, right after this batch.

    A checkpoint written between the step and what follows it cannot be continued from: the loop's counters say that the
    batch is done, and the validation would be left out.
    """
    fetcher, epoch_loop = trainer.fit_loop._data_fetcher, trainer.fit_loop.epoch_loop
    return fetcher is None or epoch_loop._should_check_val_fx(fetcher) or epoch_loop._is_training_done


def reset_validation(trainer: pl.Trainer) -> None:
    """Set the counters of a validation that is left as if it had not begun, for the checkpoint that is written now: a run that
    continues from there trains on, where nobody calls `validate_now`."""
    progress = trainer.fit_loop.epoch_loop.val_loop.batch_progress
    progress.total.reset()
    progress.current.reset()
    progress.is_last_batch = True


def validate_now(trainer: pl.Trainer) -> None:
    """Validate before the first step of a run that continues, as if the step before had just ended."""
    loop, connector = trainer.fit_loop.epoch_loop.val_loop, trainer._logger_connector
    is_first = connector._first_loop_iter
    trainer.validating = True
    loop.run()
    loop._has_run = False  # else the end of an epoch is not noticed that the step before has reached
    trainer.training = True
    connector._first_loop_iter = is_first


def end_complete_epoch(trainer: pl.Trainer) -> None:
    """Let a run that continues after the last batch of an epoch, and after the validation there if there is one, go on with the
    next epoch, or end.

    Lightning does so only where `val_check_interval` divides the epoch. Elsewhere it would train a batch more than the epoch
    has, also as the last one of the run, or begin the order of epoch 0 anew.
    """
    loop, epoch_loop = trainer.fit_loop, trainer.fit_loop.epoch_loop
    ends = epoch_loop.restarted_on_last or loop.restarted_on_epoch_end or loop.resumed_on_epoch_end
    if not (ends and epoch_loop._num_ready_batches_reached()):
        return
    assert loop._combined_loader is not None
    if loop._combined_loader_states_to_load:  # Lightning leaves them where an epoch has ended
        loop._combined_loader._load_state_dicts(loop._combined_loader_states_to_load)
        loop._combined_loader_states_to_load = []
    for loader in loop._combined_loader.flattened:
        loader.end_epoch()
    for counts in (loop.epoch_progress.total, loop.epoch_progress.current):
        assert isinstance(counts, _ProcessedTracker)
        counts.processed = counts.completed = counts.started
    for each in (loop, epoch_loop, epoch_loop.val_loop):
        each._restarting = each._resuming_from_checkpoint = False
        each.reset_restart_stage()


@contextmanager
def fitting_beyond(trainer: pl.Trainer, step: int) -> Iterator[None]:
    """Within the block the trainer's `max_steps` are more than `step`: it does not leave out a fit that has no step left."""
    loop = trainer.fit_loop.epoch_loop
    steps = loop.max_steps
    loop.max_steps = max(steps, step + 1) if steps >= 0 else steps
    try:
        yield
    finally:
        loop.max_steps = steps


def keep_own_signal_handlers(trainer: pl.Trainer) -> None:
    """Stop the trainer from installing signal handlers when it fits.

    Lightning's would end the process with exit code 0, and run a collective inside a signal handler.
    """
    trainer._signal_connector.register_signal_handlers = lambda: None  # type: ignore[method-assign]  # on purpose


def rescale_batch_progress(checkpoint: dict[str, Any], before: int, now: int) -> None:
    """Rewrite a checkpoint's counters of micro-batches for `now` micro-batches an optimizer step (`before`: as written).

    Lightning counts micro-batches; a run may continue with smaller ones, cut from the same global batches.
    """
    for counts in checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"].values():
        if isinstance(counts, dict):
            unfinished = counts["ready"] - counts["completed"]
            for name in ("ready", "started", "processed"):
                counts[name] = counts[name] // before * now
            counts["completed"] = counts["ready"] - unfinished
