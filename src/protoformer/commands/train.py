"""What `python train.py` does: flags, one run or a sweep of them, and every user error as one line.

Hydra's `main` runs the jobs, so that its sweepers and launchers work; this module gives it overrides that it
understands, checks every job of a sweep before the first one starts, and lets a sweep go on past a job that failed.
"""

import math
import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from protoformer.commands.parser import Parser, complain, guarded
from protoformer.config import compose
from protoformer.config.groups import CONF_VARIABLE, CONFIG_NAME, search_path
from protoformer.distributed import memory
from protoformer.errors import ConfigurationError, InterruptedRunError, RunFolderError, UserError

if TYPE_CHECKING:
    from omegaconf import DictConfig

HELP = "train, fine-tune or test a model (the same as train.py)"
PROGRAM = "python train.py"
LONG_SWEEP = 10  # jobs from which checking them takes seconds
FAILED = 1


@dataclass
class Job:
    """One job of this process: what was asked, and what came of it."""

    overrides: list[str]
    score: float | None = None
    error: BaseException | None = None

    @property
    def exit_code(self) -> int:
        if self.error is None:
            return 0
        return self.error.exit_code if isinstance(self.error, UserError) else FAILED


@dataclass
class Session:
    """What the task function has to know of the command line, in the process that was called."""

    program: str
    sweep: int  # number of jobs; 0 for a single run
    jobs: list[Job]
    process: int = field(default_factory=os.getpid)

    @property
    def stopped(self) -> InterruptedRunError | None:
        """What a job ended with that was asked to stop."""
        return next((job.error for job in self.jobs if isinstance(job.error, InterruptedRunError)), None)


_session: Session | None = None  # of no use in a process that a Hydra launcher started or forked


def main(arguments: Sequence[str] | None = None, program: str = PROGRAM) -> int:
    """Run a command line (default: sys.argv) and give its exit code; `program` is how the user called it."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    return guarded(lambda: _run(given, program))


def _parser() -> Parser:
    parser = Parser(prog=PROGRAM, add_help=False, allow_abbrev=False)
    parser.add_argument("-h", "--help", action="store_true")
    parser.add_argument("-m", "--multirun", action="store_true")
    parser.add_argument("-c", "--cfg", choices=("job", "hydra", "all"))
    parser.add_argument("-p", "--package")
    parser.add_argument("--resolve", action="store_true")
    parser.add_argument("--config-dir")
    parser.add_argument("overrides", nargs="*")
    return parser


def _run(given: list[str], program: str) -> int:
    flags = _parser().parse_intermixed_args(given)
    if flags.config_dir is not None:
        os.environ[CONF_VARIABLE] = os.path.abspath(flags.config_dir)
    folders = search_path()
    if flags.help:
        from protoformer.commands.list import usage

        print(usage(folders, program))
        return 0
    if not flags.overrides:
        raise ConfigurationError(
            f"no model and no task; give both, as in {program} model=bert task=glue/mnli, or see --help"
        )
    if flags.cfg and flags.multirun:
        raise ConfigurationError(f"--cfg={flags.cfg} shows one config; leave out -m, and name one value for each key")
    words = [*compose.rewritten(flags.overrides, folders, sweep=flags.multirun), *compose.further(folders)]
    sweep = 0
    if flags.cfg:
        compose.compose(flags.overrides)
    if flags.multirun:
        sweep, params = checked_sweep(flags.overrides, folders)
        words = [*params, *words]
    switches = ["--multirun"] * flags.multirun + ["--resolve"] * flags.resolve
    for name in ("cfg", "package"):
        if getattr(flags, name) is not None:
            switches += [f"--{name}", getattr(flags, name)]
    return _hydra([*switches, *words], folders, Session(program, sweep, []))


def _hydra(arguments: list[str], folders: Sequence[Path], session: Session) -> int:
    global _session
    import hydra

    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors reach us instead of being printed
    before = sys.argv
    sys.argv = [before[0], *arguments]
    _session = session
    try:
        with compose.readable_errors(folders):
            hydra.main(config_path=str(folders[0]), config_name=CONFIG_NAME, version_base=compose.VERSION_BASE)(task)()
    finally:
        sys.argv = before
        _session = None
        if session.sweep and session.jobs:
            _summary(session)
    if session.sweep:
        if session.stopped is not None:
            left = session.sweep - len(session.jobs)
            print(f"stopped with {left} jobs not begun; the same command continues there", file=sys.stderr)
            return session.stopped.exit_code
        codes = {job.exit_code for job in session.jobs if job.error is not None}
        return codes.pop() if len(codes) == 1 else FAILED if codes else 0
    error = session.jobs[0].error if session.jobs else None
    if error is not None:
        raise error
    return 0


def checked_sweep(overrides: Sequence[str], folders: Sequence[Path]) -> tuple[int, list[str]]:
    """Check every job of a sweep; gives their number (at least 1) and the sweep that yaml asks for, as overrides.

    Only Hydra's own sweeper is known beforehand; jobs that another one draws are checked as they come.
    """
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from omegaconf import OmegaConf

    def jobs(words: Sequence[str]) -> list[list[str]]:
        read = OverridesParser.create().parse_overrides(list(words))
        return [job for batch in BasicSweeper.split_arguments(read, None) for job in batch]

    compose.rewritten(overrides, folders, sweep=True)
    with compose.readable_errors(folders):
        first = jobs(overrides)[0]
        node = compose.composed_by_hydra(first, folders).hydra
        if node.runtime.choices["hydra/sweeper"] != "basic":
            compose.compose(first)
            return 1, []
        stated = OmegaConf.to_container(node.sweeper.params or OmegaConf.create(), resolve=True)
        assert isinstance(stated, dict)
        given = {text.lstrip("+~").partition("=")[0] for text in overrides}
        sweeps = {str(key): value for key, value in stated.items()}
        params = [f"{key}={value}" for key, value in sweeps.items() if key.lstrip("+") not in given]
        drawn = jobs([*params, *overrides])
    if len(drawn) > LONG_SWEEP:
        print(f"{len(drawn)} jobs; each is checked before the first one starts", file=sys.stderr)
    for job in drawn:
        compose.compose(job)
    return len(drawn), ["hydra.sweeper.params=null", *compose.rewritten(params, folders, sweep=True)]


def task(config: "DictConfig") -> float | None:
    """One job, called by Hydra: checks, then trains. What it returns is the sweep's objective (`val/score`)."""
    from hydra.core.hydra_config import HydraConfig

    hydra = HydraConfig.get()
    session = _session if _session is not None and _session.process == os.getpid() else None
    words = [compose.shown(text) for text in hydra.overrides.task]
    if session is not None and session.stopped is not None:  # whoever stopped a job meant the sweep
        return math.nan
    job = Job(words)
    if session is not None:
        session.jobs.append(job)
        if session.sweep:
            total = f"/{session.sweep}" if session.sweep > 1 else ""
            print(f"[{len(session.jobs)}{total}] {shlex.join(words)}", flush=True)
    try:
        plain = compose.plain(config, dict(hydra.runtime.choices), words)
        from protoformer.training.run import train

        job.score = train(plain, rerun(words, session.program if session is not None else PROGRAM))
    except Exception as error:
        if session is None:  # another process: its launcher carries the error home
            raise
        if isinstance(error, OSError) and error.filename:
            error = RunFolderError(f"{error.filename}: {error.strerror or error}")
        job.error = error  # raised, or listed, when Hydra is done
        if session.sweep:
            _tell(error)
            error.__traceback__ = error.__context__ = error.__cause__ = None  # frames, and in them the job's weights
        return math.nan
    finally:
        if session is None or session.sweep:  # others follow in this process
            memory.release()
    return job.score


def rerun(overrides: Sequence[str], program: str = PROGRAM) -> str:
    """The command that runs this job again, quoted for a shell."""
    folder = os.environ.get(CONF_VARIABLE)
    flags = ["--config-dir", folder] if folder else []
    return f"{program} {shlex.join([*flags, *overrides])}"


def _tell(error: Exception) -> None:
    if isinstance(error, UserError):
        complain(error)
    else:
        import traceback

        traceback.print_exception(error)


def _summary(session: Session) -> None:
    """A table of a sweep's jobs: what each changed, and its score or its error."""
    from protoformer.reporting.tables import print_table

    common = set.intersection(*(set(job.overrides) for job in session.jobs)) if len(session.jobs) > 1 else set()
    rows = []
    for number, job in enumerate(session.jobs, start=1):
        own = " ".join(text for text in job.overrides if text not in common) or "(the same)"
        score = "" if job.score is None else f"{job.score:.4f}"
        failure = "" if job.error is None else f"{type(job.error).__name__}: {compose.first_line(job.error)}"
        rows.append([str(number), own, score, failure])
    print_table(("job", "overrides", "val/score", "error"), rows, "jobs of this sweep")
