"""`protoformer sweep`: the trials of a sweep's file, one after another or side by side, on one machine or several."""

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from protoformer.commands.parser import printable
from protoformer.config.groups import CONF_VARIABLE, groups, search_path
from protoformer.distributed import signals, slurm
from protoformer.errors import ConfigurationError

if TYPE_CHECKING:
    from protoformer.pool.slots import Slots
    from protoformer.sweeps.specification import Sweep

HELP = "run the trials of a sweep: a grid, or a search by Optuna; the same command continues it, and joins it elsewhere"
SOME_FAILED = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="the sweep, such as sweeps/search.yaml")
    parser.add_argument(
        "words",
        nargs="*",
        metavar="KEY=VALUE",
        help="overrides of all trials as for train.py (task=glue/rte); several values (seed=1,2,3) are part of the space",
    )
    parser.add_argument(
        "--workers", type=int, metavar="N", help="trials side by side, each on a device (default: workers of the file)"
    )
    parser.add_argument("--trials", type=int, metavar="N", help="number of trials (default: trials of the file)")
    parser.add_argument("--folder", metavar="DIR", help="the sweep's folder (default: outputs/sweeps/NAME)")
    parser.add_argument("--config-dir", metavar="DIR", help="a folder with further options (default: that of the file)")


def run(options: argparse.Namespace) -> int:
    with signals.listen() as stop:
        # not at the top: slow to import
        from dataclasses import replace

        from protoformer.reporting.sweep.main import print_outcome
        from protoformer.sweeps.checks import checked, folder_of
        from protoformer.sweeps.journal import Journal
        from protoformer.sweeps.specification import read_sweep, with_trials
        from protoformer.sweeps.worker import Worker

        file = Path(options.file)
        if options.config_dir is None and any((file.parent / name).is_dir() for name in groups(search_path())):
            os.environ.setdefault(CONF_VARIABLE, str(file.parent.resolve()))
        sweep = read_sweep(file, options.words, search_path())
        if options.trials is not None:
            sweep = with_trials(sweep, options.trials)
        if options.workers is not None:
            if options.workers < 1:
                raise ConfigurationError(f"--workers {options.workers}: at least 1")
            sweep = replace(sweep, workers=options.workers)
        configs = checked(sweep)
        slots = _slots(sweep, configs)
        folder = Path(options.folder) if options.folder else folder_of(sweep, configs[0])
        journal = Journal(folder, sweep)
        journal.prepare()
        counts = journal.counts()
        done = counts["COMPLETE"] + counts["PRUNED"]
        method = f"{sweep.method}, {sweep.direction} {sweep.objective}, pruner {sweep.pruner}"
        _say(f"sweep {sweep.name}: {sum(counts.values())} trials, {done} of them finished ({method}), in {folder}")
        if slots.is_pinned:
            _say(f"{len(slots)} trials side by side: {', '.join(slot.name for slot in slots.all)}")
        with slurm.requeued(configs[0]["hardware"]):
            Worker(journal, _say, slots).run(stop)
        return SOME_FAILED if print_outcome(folder) else 0


def _slots(sweep: "Sweep", configs: list[dict[str, Any]]) -> "Slots":
    """The devices of this command's trials: those of `hardware.pool`, or of as many workers. One worker is pinned to none."""
    # not at the top: slow to import
    from protoformer.commands.sweeps.pooled import pool_hardware
    from protoformer.pool.slots import Slots, slots_of
    from protoformer.pool.survey import check_memory, survey

    size, hardware = pool_hardware(configs)
    if size is None and sweep.workers == 1:
        return Slots.anywhere()
    if size is not None and sweep.workers > 1:
        raise ConfigurationError(
            f"hardware.pool={size} and workers={sweep.workers}: both say how many trials run side by side; leave one out "
            "(--workers 1 takes back what a file says)"
        )
    key = "workers" if size is None else "hardware.pool"
    look = survey(configs)
    slots = slots_of(sweep.workers if size is None else size, hardware, look.machine, key)
    least = min(slots.needed(config) for config in configs)
    check_memory(slots, look.trials, sweep.trials, least, look.machine, key)
    return slots


def _say(line: str) -> None:
    print(printable(line), flush=True)
