"""One run, from a plain config to a result: continue what was begun, return what is done, else build, fit, test, record."""

import logging
import os
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from protoformer.atomic import write_text
from protoformer.distributed import launcher, memory, world
from protoformer.distributed.collectives import broadcast_from_rank0, init_process_group
from protoformer.distributed.signals import stop_on_signal
from protoformer.distributed.world import is_main, world_size
from protoformer.errors import StaleResultError
from protoformer.runs.digests import code_digest
from protoformer.runs.folder import RunFolder
from protoformer.runs.lock import RunLock
from protoformer.training.optional import optional
from protoformer.training.session import TrainingSession

log = logging.getLogger(__name__)


def train(config: dict[str, Any], command: str) -> float | None:
    """Run `config` and give its `val/score` (None for a task that is only tested), printing the table of results.

    Raises StaleResultError for a finished run whose code has changed since, unless reuse or force is set.
    """
    from protoformer.reporting.results import print_results

    started = world.world(config["hardware"], os.environ)
    if started.role == "rank" or started.nodes > 1:  # nobody here is alone in deciding: rank 0 does, for all
        claim = launcher.launch(_train_together, config, command)
    else:
        with ExitStack() as held:
            claim = _claim(config, held)
            if claim.result is None:
                claim = claim._replace(result=launcher.launch(run_rank, config, claim.place, command))
    if claim.result is None:
        raise RuntimeError("a run ended without a result")
    if is_main():
        with optional("the table of results", BrokenPipeError):  # nobody reads on: the caller's to judge
            print_results(claim.result, Path(claim.place))
    return claim.result["score"]


class Claim(NamedTuple):
    """A run folder, and the result of a run that is finished."""

    place: str
    result: dict[str, Any] | None = None


def _claim(config: Mapping[str, Any], held: ExitStack) -> Claim:
    """Find the run's folder; give its result where it is finished, else own it for as long as `held` is open."""
    folder = RunFolder.locate(config, force=config["force"])
    if folder.state == "finished":
        result = folder.read_result()
        if result["digests"]["code"] != code_digest() and not config["reuse"]:
            raise StaleResultError(
                f"{folder.path} is finished, but the code has changed since: reuse=true takes its result as it is, "
                "force=true runs it anew"
            )
        if not (folder.path / "card.md").exists():  # killed between the two
            from protoformer.reporting.card import write_card

            with optional("card.md"):
                write_card(folder.path)
        print(f"this run is finished already ({result['finished']}); force=true runs it anew", file=sys.stderr)
        return Claim(str(folder.path), result)
    held.enter_context(RunLock(folder.path, lost=lambda: _lost(folder.path)))
    begun = folder.path / "code_digest"
    by_other_code = begun.exists() and begun.read_text(encoding="utf-8").strip() != code_digest()
    if folder.last_checkpoint.exists() and by_other_code and not config["reuse"]:
        raise StaleResultError(
            f"{folder.path} was begun by other code: reuse=true goes on all the same, force=true runs it anew"
        )
    write_text(begun, code_digest() + "\n")
    folder.write_config(config)
    return Claim(str(folder.path))


def _train_together(config: dict[str, Any], command: str) -> Claim:
    """One of several ranks that another launcher, or several machines', started: rank 0 claims the folder for all."""
    init_process_group(config["hardware"])
    with ExitStack() as held:
        place, result = broadcast_from_rank0(lambda: tuple(_claim(config, held)))
        return Claim(place, result or run_rank(config, place, command))


def _lost(folder: Path) -> None:
    """Somebody took us for dead (a machine that slept): write nothing more, at once. Ranks die with their parent."""
    print(f"error: {folder} has been taken over by another job; this one ends", file=sys.stderr, flush=True)
    os._exit(2)


def run_rank(config: dict[str, Any], place: str, command: str) -> dict[str, Any]:
    """One rank's whole work; every rank gives the result back, rank 0 writes it down."""
    with stop_on_signal() as stop:
        import torch

        from protoformer.distributed.strategy import device
        from protoformer.training import console

        folder = RunFolder.open(Path(place))
        rank, ranks = world.rank(), world_size()
        console.set_up(folder.log_file, rank)
        device(config["hardware"])  # what is not here is told before anything is fetched
        if config["hardware"]["threads"]:
            torch.set_num_threads(config["hardware"]["threads"])
        if ranks > 1:
            init_process_group(config["hardware"])
        memory.begin()
        return TrainingSession(config, folder, command, rank, ranks, stop).run()
