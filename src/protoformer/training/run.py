"""Training run: claim the run folder, launch the ranks, return the result.

    train -> _claim (the folder: finished, continued or new) -> launcher.launch -> run_rank -> TrainingSession.run

A finished run returns its recorded result at once; an interrupted one continues. That needs neither torch nor Lightning, so
they are imported only where a rank starts to work.
"""

import logging
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from protoformer.atomic import remove_abandoned, write_text
from protoformer.config.probes import probe_configs
from protoformer.config.validate import check_names_weights
from protoformer.distributed import launcher, memory, signals
from protoformer.distributed.world import is_main, rank, world, world_size
from protoformer.errors import MicroBatchError, StaleResultError, UserError
from protoformer.reporting import card, head, results
from protoformer.runs.checkpoint_files import choose_whole_checkpoint
from protoformer.runs.digests import code_digest
from protoformer.runs.folder import RunFolder, remove_empty
from protoformer.runs.leftovers import remove_states
from protoformer.runs.lock import RunLock, remove_dead_lock
from protoformer.training.best_effort import best_effort

log = logging.getLogger(__name__)


def train(config: dict[str, object], command: str) -> float | None:
    """As `train_run`; returns the run's `val/score` (None for a task that is only tested)."""
    return train_run(config, command)["score"]


def train_run(config: dict[str, Any], command: str) -> dict[str, Any]:
    """Run `config`, print its table of results, and return its result.

    `command` is what the user typed, for the record. Raises StaleResultError for a finished run whose code has changed
    since, unless `reuse` or `force` is set.
    """
    check_names_weights(config)  # before a folder is claimed, and a line says what starts from where
    probe_configs(config)  # a misspelt one is answered before anything is built
    process = world(config["hardware"], os.environ)
    if process.role == "rank" or process.nodes > 1:  # others take part: rank 0 decides for all
        claim = launcher.launch(_train_with_other_ranks, config, command)
    else:
        with ExitStack() as lock:
            claim = _claim(config, lock)
            if claim.result is None:
                with _unless_refused(claim):
                    claim = claim._replace(result=_launch(config, claim.folder, command))
    if claim.result is None:
        raise RuntimeError("a run ended without a result")
    if is_main():
        with best_effort("the table of results", BrokenPipeError):  # a closed pipe is for the caller to judge
            results.print_results(claim.result, Path(claim.folder))
    return claim.result


def _launch(config: dict[str, Any], folder: str, command: str) -> dict[str, Any]:
    """Run all ranks to the end. Where memory does not hold the automatic micro-batch they start again, with half of it."""
    while True:
        try:
            return launcher.launch(run_rank, config, folder, command)
        except MicroBatchError as error:
            print(
                str(error).replace("the same command continues", "continuing from the last checkpoint"), file=sys.stderr
            )
        memory.release()  # not in the handler, where the error still holds all that the step had allocated


class Claim(NamedTuple):
    """A run folder, and the result of a run that is finished."""

    folder: str
    result: dict[str, Any] | None = None


def _claim(config: Mapping[str, Any], lock: ExitStack) -> Claim:
    """Find the run's folder. If the run is finished return its result, otherwise lock the folder while `lock` is open."""
    folder = RunFolder.locate(config, force=config["force"])
    if folder.state == "finished":
        remove_abandoned(folder.path)  # of a process that was killed after its result
        remove_dead_lock(folder.path)
        remove_states(folder)
        return Claim(str(folder.path), _finished_result(config, folder))
    outputs = Path(config["paths"]["outputs"])
    present = next(path for path in (outputs, *outputs.parents) if path.exists())
    lock.callback(remove_empty, folder.path, present)  # when the lock is gone
    lock.enter_context(RunLock(folder.path, lost=lambda: _exit_on_lost_lock(folder.path)))
    remove_abandoned(folder.path, owned=True)
    remove_abandoned(Path(config["paths"]["cache"]))
    choose_whole_checkpoint(folder)
    digest_file = folder.path / "code_digest"
    code_changed = digest_file.exists() and digest_file.read_text(encoding="utf-8").strip() != code_digest(config)
    if folder.last_checkpoint.exists() and code_changed and not config["reuse"]:
        raise StaleResultError(
            f"{folder.path} was started by other code: reuse=true continues it anyway, force=true starts a new attempt"
        )
    write_text(digest_file, code_digest(config) + "\n")
    folder.write_config(config)
    print(head.head_line(config, folder.path), flush=True)
    return Claim(str(folder.path))


@contextmanager
def _unless_refused(claim: Claim) -> Iterator[None]:
    """A run that an error of its user ends before its first step leaves no folder."""
    try:
        yield
    except UserError as error:
        if error.exit_code == UserError.exit_code and is_main() and not isinstance(error, MicroBatchError):
            RunFolder.open(Path(claim.folder)).remove_if_not_started()
        raise


def _finished_result(config: Mapping[str, object], folder: RunFolder) -> dict[str, Any]:
    result = folder.read_result()
    if result["digests"]["code"] != code_digest(config) and not config["reuse"]:
        raise StaleResultError(
            f"{folder.path} is finished, but the code has changed since: reuse=true returns its result, "
            "force=true starts a new attempt"
        )
    if not (folder.path / "card.md").exists():  # killed between result and card
        with best_effort("card.md"):
            card.write_card(folder.path)
    print(
        f"this run is already finished ({result['finished']}); force=true starts a new attempt (hardware.*, tracking.* "
        "and views.* do not make another run)",
        file=sys.stderr,
    )
    return result


def _train_with_other_ranks(config: dict[str, Any], command: str) -> Claim:
    """One of several ranks, started by another launcher or on several machines: rank 0 claims the folder for all."""
    from protoformer.distributed.collectives import broadcast_from_rank0, init_process_group, meet  # imports torch

    meet(config)
    init_process_group(config["hardware"])
    with ExitStack() as lock:
        claim = broadcast_from_rank0(lambda: _claim(config, lock))
        with _unless_refused(claim):
            return Claim(claim.folder, claim.result or run_rank(config, claim.folder, command))


def _exit_on_lost_lock(folder: Path) -> None:
    """End the process at once, without writing: another job has taken the folder over, as after this machine was suspended.
    Ranks end with their parent."""
    print(f"error: {folder} was taken over by another job; this one stops", file=sys.stderr, flush=True)
    os._exit(2)


def run_rank(config: dict[str, Any], folder_path: str, command: str) -> dict[str, Any]:
    """One rank's whole work. Every rank returns the result; rank 0 writes it to the folder."""
    with signals.listen() as stop:  # before the slow imports: a signal may come at any time
        stop.end_steps()  # those of an earlier run of this process
        import torch

        from protoformer.distributed.checks.hang import HangWatch
        from protoformer.distributed.collectives import forget_process_group, init_process_group
        from protoformer.distributed.strategy import resolve_accelerator
        from protoformer.training import log_setup
        from protoformer.training.session import TrainingSession

        hardware, folder = config["hardware"], RunFolder.open(Path(folder_path))
        log_setup.configure_logging(folder.log_file, rank())
        resolve_accelerator(hardware)  # a missing GPU is reported before anything is downloaded
        if hardware["threads"]:
            torch.set_num_threads(hardware["threads"])
        watch = None
        if world_size() > 1:
            init_process_group(hardware)
            watch = HangWatch(stop, folder.path, hardware["timeout"])
        memory.begin()
        stop.check()
        try:
            session = TrainingSession(config, folder, command, rank(), world_size(), stop)
            if watch is not None:
                watch.position = session.position
            return session.run()
        except BaseException:  # also Ctrl-C
            forget_process_group()
            raise
        finally:
            if watch is not None:
                watch.close()
