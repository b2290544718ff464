"""The jobs of one command line: a single run, or those of a sweep (-m), which goes on past a job that failed.

Hydra's `main` runs them, so that its sweepers and launchers work. Every job of a sweep is checked before the first starts.
"""

import math
import os
import shlex
import sys
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from protoformer.atomic import FULL, full_disk
from protoformer.commands.parser import print_error
from protoformer.config import compose, hydra_errors
from protoformer.config.groups import CONF_VARIABLE, CONFIG_NAME
from protoformer.distributed import memory, signals, slurm
from protoformer.errors import ConfigurationError, DiskFullError, InterruptedRunError, RunFolderError, UserError

if TYPE_CHECKING:
    from omegaconf import DictConfig

FAILED = 1
PROGRAM = "python train.py"
REPEATING = ("seed=", "task.fold=")  # overrides of jobs that repeat one experiment


@dataclass
class Job:
    """One job: its overrides, and its score or its error."""

    overrides: list[str]
    score: float | None = None
    score_text: str = ""
    outputs: str = ""
    error: BaseException | None = None

    @property
    def exit_code(self) -> int:
        if self.error is None:
            return 0
        return self.error.exit_code if isinstance(self.error, UserError) else FAILED


@dataclass
class Session:
    """The jobs that one command line runs in the process that was called."""

    program: str  # how the user called it
    sweep_size: int  # number of jobs; 0 for a single run
    jobs: list[Job] = field(default_factory=list)
    process: int = field(default_factory=os.getpid)

    @property
    def interruption(self) -> InterruptedRunError | None:
        """The error of a job that was asked to stop."""
        return next((job.error for job in self.jobs if isinstance(job.error, InterruptedRunError)), None)


def run_jobs(arguments: Sequence[str], folders: Sequence[Path], session: Session) -> int:
    """Run Hydra with its arguments and give the exit code: of a sweep the one that all failed jobs share, or 1.

    Raises the error of a single run.
    """
    # not at the top: Hydra is slow to import
    import hydra

    def task(config: "DictConfig") -> float | None:
        # a launcher of Hydra may have copied this function into another process, where nobody reads the session
        return run_job(config, session if session.process == os.getpid() else None)

    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors reach us instead of being printed
    argv = sys.argv
    sys.argv = [argv[0], *arguments]
    try:
        with hydra_errors.readable_errors(folders):
            hydra.main(config_path=str(folders[0]), config_name=CONFIG_NAME, version_base=compose.VERSION_BASE)(task)()
    finally:
        sys.argv = argv
        if session.sweep_size and session.jobs:
            print_summary(session.jobs)
    if not session.sweep_size:
        for job in session.jobs:
            if job.error is not None:
                raise job.error
        return 0
    if session.interruption is not None:
        remaining = session.sweep_size - len(session.jobs)
        print(f"stopped with {remaining} jobs not started; the same command continues there", file=sys.stderr)
        return session.interruption.exit_code
    codes = {job.exit_code for job in session.jobs if job.error is not None}
    return codes.pop() if len(codes) == 1 else FAILED if codes else 0


def run_job(config: "DictConfig", session: Session | None = None) -> float | None:
    """One job, called by Hydra: checked, then trained. Returns the objective of a sweep, `val/score`.

    Without a session (in another process) errors are raised, for the launcher to carry them home.
    """
    # not at the top: Hydra is slow to import
    from hydra.core.hydra_config import HydraConfig

    hydra = HydraConfig.get()
    overrides = [compose.shown(text) for text in hydra.overrides.task]
    if session is not None and session.interruption is not None:  # who stopped a job meant the whole sweep
        return math.nan
    job = Job(overrides)
    if session is not None:
        session.jobs.append(job)
        if session.sweep_size:
            total = f"/{session.sweep_size}" if session.sweep_size > 1 else ""
            print(f"[{len(session.jobs)}{total}] {shlex.join(overrides)}", flush=True)
    try:
        signals.check()
        checked = compose.plain(config, dict(hydra.runtime.choices), overrides)
        _check_is_no_pool(checked)
        job.outputs = checked["paths"]["outputs"]
        if session is not None and session.sweep_size:
            checked["tracking"]["sweep"] = checked["tracking"]["sweep"] or sweep_name(checked["choices"])
        # after the check; not at the top: slow to import
        from protoformer.reporting.results import score_text
        from protoformer.training.run import train_run

        with slurm.requeued(checked["hardware"]):
            result = train_run(checked, command_line(overrides, session.program if session is not None else PROGRAM))
        job.score, job.score_text = result["score"], score_text(result)
    except Exception as error:  # of any kind: a sweep lists it and goes on, a single run raises it after Hydra
        if session is None:
            raise
        if isinstance(error, OSError) and error.errno in FULL:
            error = DiskFullError(full_disk(Path(error.filename or Path(config.paths.outputs) / "*")))
        elif isinstance(error, OSError) and error.filename:
            error = RunFolderError(f"{error.filename}: {error.strerror or error}")
        job.error = error  # raised, or listed, when Hydra is done
        if session.sweep_size:
            if isinstance(error, UserError):
                print_error(error)
            else:
                traceback.print_exception(error)
            error.__traceback__ = error.__context__ = error.__cause__ = None  # frames, and in them the job's weights
        return math.nan
    finally:
        if session is None or session.sweep_size:  # others follow in this process
            memory.release()
    return job.score


def _check_is_no_pool(config: Mapping[str, Any]) -> None:
    """A pool has its jobs in processes of their own (see `commands.sweeps.pooled`); one that comes here is a single run."""
    if config["hardware"]["pool"] is not None:
        raise ConfigurationError(
            f"hardware.pool={config['hardware']['pool']} runs the jobs of a sweep side by side, and this is a single run; add "
            "-m and several values (seed=1,2,3), or leave hardware.pool out"
        )


def sweep_name(choices: Mapping[str, Any]) -> str:
    """What the jobs of -m are grouped by in a tracker: their experiment."""
    experiment = choices.get("experiment")
    return "multirun" if experiment in (None, "none") else str(experiment)


def command_line(overrides: Sequence[str], program: str = PROGRAM) -> str:
    """The command that runs this job again, quoted for a shell."""
    folder = os.environ.get(CONF_VARIABLE)
    flags = ["--config-dir", folder] if folder else []
    return f"{program} {shlex.join([*flags, *overrides])}"


def print_summary(jobs: Sequence[Job]) -> None:
    """A table of a sweep's jobs: the overrides that differ, and the score or the error of each."""
    # not at the top: slow to import
    import statistics

    from protoformer.reporting.tables import print_table

    common = set.intersection(*(set(job.overrides) for job in jobs)) if len(jobs) > 1 else set()
    has_errors = any(job.error is not None for job in jobs)
    rows = []
    for number, job in enumerate(jobs, start=1):
        overrides = " ".join(text for text in job.overrides if text not in common) or "(the same)"
        error = "" if job.error is None else f"{type(job.error).__name__}: {hydra_errors.first_line(job.error)}"
        rows.append([str(number), overrides, job.score_text, *([error] if has_errors else [])])
    print_table(("job", "overrides", "dev score", *(["error"] if has_errors else [])), rows, "jobs of this sweep")
    scored = [
        (job.score, -number) for number, job in enumerate(jobs) if job.score is not None and job.score == job.score
    ]
    repeated = {tuple(text for text in job.overrides if not text.startswith(REPEATING)) for job in jobs}
    if len(scored) > 1 and len(repeated) == 1 and all(job.score_text[:1].isdigit() for job in jobs):
        scores = [100 * score for score, _ in scored]
        print(f"mean of {len(scores)} jobs: {statistics.fmean(scores):.2f} ± {statistics.stdev(scores):.2f}")
    tasks = {text for job in jobs for text in job.overrides if text.startswith("task=")}
    if len(scored) > 1 and len(tasks) < 2:  # scores of different tasks have no best
        best = -max(scored)[1]
        print(
            f"best: job {best + 1} ({rows[best][1]}), {rows[best][2]}; `protoformer report {jobs[best].outputs}` compares them"
        )
