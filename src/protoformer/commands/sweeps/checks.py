"""The jobs of `--multirun`, each checked before the first starts."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from protoformer.config import compose, hydra_errors
from protoformer.config.overrides import parsed

LONG_SWEEP = 10  # jobs from which checking them takes seconds


@dataclass
class CheckedSweep:
    """The jobs of a sweep, which compose; of another sweeper than Hydra's own the first alone is known."""

    jobs: list[list[str]]
    configs: list[dict[str, Any]]
    params: list[str]  # the sweep that yaml asks for, as overrides
    plugins: dict[str, str]  # Hydra's sweeper and launcher


def checked_sweep(overrides: Sequence[str], folders: Sequence[Path]) -> CheckedSweep:
    """Check every job of a sweep. Only Hydra's own sweeper is known beforehand; jobs that another one draws are checked as they
    come."""
    # not at the top: Hydra is slow to import
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
    from omegaconf import OmegaConf

    def jobs_of(overrides: Sequence[str]) -> list[list[str]]:
        words = [override for _, override in parsed(overrides, folders)]
        return [job for batch in BasicSweeper.split_arguments(words, None) for job in batch]

    compose.rewritten(overrides, folders, sweep=True)
    with hydra_errors.readable_errors(folders):
        first = jobs_of(overrides)[0]
        node = compose.composed_by_hydra(first, folders).hydra
        plugins = {name: node.runtime.choices[f"hydra/{name}"] for name in ("sweeper", "launcher")}
        if plugins["sweeper"] != "basic":
            return CheckedSweep([first], [compose.compose(first)], [], plugins)
        stated = OmegaConf.to_container(node.sweeper.params or OmegaConf.create(), resolve=True)
        assert isinstance(stated, dict)
        typed = {text.lstrip("+~").partition("=")[0] for text in overrides}
        sweeps = {str(key): value for key, value in stated.items()}
        params = [f"{key}={value}" for key, value in sweeps.items() if key.lstrip("+") not in typed]
        jobs = jobs_of([*params, *overrides])
    if len(jobs) > LONG_SWEEP:
        print(f"{len(jobs)} jobs; each is checked before the first one starts", file=sys.stderr)
    configs = [compose.compose(job) for job in jobs]
    params = ["hydra.sweeper.params=null", *compose.rewritten(params, folders, sweep=True)]
    return CheckedSweep(jobs, configs, params, plugins)
