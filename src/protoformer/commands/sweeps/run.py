"""`protoformer sweep`: the trials of a sweep's file, one after another or side by side, on one machine or several."""

import argparse
import os
from pathlib import Path

from protoformer.commands.parser import printable
from protoformer.config.groups import CONF_VARIABLE, groups, search_path
from protoformer.distributed import signals
from protoformer.errors import ConfigurationError

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
    parser.add_argument("--workers", type=int, metavar="N", help="trials side by side (default: workers of the file)")
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
        folder = Path(options.folder) if options.folder else folder_of(sweep, checked(sweep))
        journal = Journal(folder, sweep)
        journal.prepare()
        counts = journal.counts()
        done = counts["COMPLETE"] + counts["PRUNED"]
        method = f"{sweep.method}, {sweep.direction} {sweep.objective}, pruner {sweep.pruner}"
        _say(f"sweep {sweep.name}: {sum(counts.values())} trials, {done} of them finished ({method}), in {folder}")
        Worker(journal, _say).run(stop)
        return SOME_FAILED if print_outcome(folder) else 0


def _say(line: str) -> None:
    print(printable(line), flush=True)
