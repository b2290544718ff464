"""`train.py -m ... hardware.pool=...`: the jobs of a sweep side by side, a process each; what is refused before they start."""

import hashlib
import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from protoformer.commands.multirun import FAILED, sweep_name
from protoformer.commands.parser import printable
from protoformer.commands.sweeps.checks import CheckedSweep
from protoformer.distributed import signals, slurm
from protoformer.distributed.world import world
from protoformer.errors import ConfigurationError
from protoformer.pool.jobs import JobPool, PooledJob, pooled_job
from protoformer.pool.slots import Slots, slots_of
from protoformer.pool.survey import check_memory, survey
from protoformer.pool.words import KEY

HEAD = ("trial", "overrides", "device", "status", "dev score", "time")


def run_pool(sweep: CheckedSweep) -> int:
    """Run the jobs of a sweep in a pool and give the exit code: the one that all failed jobs share, or 1."""
    _check_plugins(sweep)
    # not at the top: slow to import
    from protoformer.reporting.results import score_text

    with signals.listen() as stop:
        slots, jobs = pool_jobs(sweep)
        finished = sum(job.status == "finished before" for job in jobs)
        logs = _log_folder(sweep)
        before = f", {finished} of them finished before" if finished else ""
        devices = ", ".join(slot.name for slot in slots.all)
        _say(f"{len(jobs)} trials{before}, on {len(slots)} devices ({devices}); output of each in {logs}")
        try:
            with slurm.requeued(sweep.configs[0]["hardware"]):
                JobPool(jobs, logs, slots, _say, score_text).run(stop)
        finally:
            print_jobs(jobs)
    codes = {job.exit_code for job in jobs if job.exit_code}
    return codes.pop() if len(codes) == 1 else FAILED if codes else 0


def pool_jobs(sweep: CheckedSweep) -> tuple[Slots, list[PooledJob]]:
    """The slots of the pool, and its jobs. Raises ConfigurationError for a pool that cannot run them."""
    size, hardware = pool_hardware(sweep.configs)
    look = survey(sweep.configs)
    slots = slots_of(size, hardware, look.machine)
    common = set.intersection(*map(set, sweep.jobs)) if len(sweep.jobs) > 1 else set()
    jobs = []
    for number, (words, config) in enumerate(zip(sweep.jobs, sweep.configs, strict=True), start=1):
        text = shlex.join(word for word in words if word not in common) or "(the same)"
        job = pooled_job(number, words, text, config, slots)
        name = sweep_name(config["choices"])
        if config["tracking"]["sweep"] is None:
            job.words.append(f"tracking.sweep={name}")
        jobs.append(job)
    open_ones = [number for number, job in enumerate(jobs) if job.status != "finished before"]
    least = min((jobs[number].slots for number in open_ones), default=1)
    check_memory(slots, [look.trials[number] for number in open_ones], len(open_ones), least, look.machine)
    return slots, jobs


def pool_hardware(configs: Sequence[Mapping[str, Any]]) -> tuple[Any, dict[str, Any]]:
    """`hardware.pool` and the accelerator and threads of all jobs. Raises ConfigurationError where they differ."""
    for key in ("pool", "accelerator", "threads"):
        values = {str(config["hardware"][key]) for config in configs}
        if len(values) > 1:
            raise ConfigurationError(
                f"hardware.{key} is {' and '.join(sorted(values))} in jobs of one pool; give it one value"
            )
    hardware = configs[0]["hardware"]
    if world(hardware, os.environ).role == "rank":
        raise ConfigurationError(f"{KEY}={hardware['pool']} starts its own processes; start one task, not several")
    return hardware["pool"], dict(hardware)


def _check_plugins(sweep: CheckedSweep) -> None:
    for name, plugin in sweep.plugins.items():
        if plugin != "basic":
            raise ConfigurationError(
                f"hydra/{name}={plugin} and {KEY}={sweep.configs[0]['hardware']['pool']}: a pool runs the jobs itself; leave "
                "one of them out"
            )


def _log_folder(sweep: CheckedSweep) -> Path:
    """The same for the same jobs, whatever the pool."""
    words = "\n".join(word for job in sweep.jobs for word in job if not word.startswith(KEY))
    name = f"{sweep_name(sweep.configs[0]['choices'])}-{hashlib.sha256(words.encode()).hexdigest()[:8]}"
    return Path(sweep.configs[0]["paths"]["outputs"]) / "pool" / name


def print_jobs(jobs: Sequence[PooledJob]) -> None:
    """A table of the jobs: how each ended, where, and in what time."""
    # not at the top: slow to import
    from protoformer.reporting.results import score_text
    from protoformer.reporting.tables import format_duration, print_table

    has_errors = any(job.error for job in jobs)
    rows = []
    for job in jobs:
        score = score_text(job.result) if job.result else ""
        seconds = "" if job.seconds is None else format_duration(job.seconds)
        error = [printable(job.error)] if has_errors else []
        rows.append([str(job.number), printable(job.text), job.device, job.status, score, seconds, *error])
    print_table((*HEAD, *(["error"] if has_errors else [])), rows, "trials of this pool")


def _say(line: str) -> None:
    print(printable(line), flush=True)
