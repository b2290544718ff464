"""The journal of a sweep: Optuna's study in a file of the sweep's folder, which all workers write.

    outputs/sweeps/NAME/sweep.yaml          what the journal belongs to
                        journal.log         Optuna's JournalFileBackend
                        trials/0003/        lock of the worker that runs the trial, output.log

A trial is queued (WAITING), running, or finished. A running trial whose lock nobody holds was left by a worker that was stopped
or killed: the next worker takes it over under the same number. A failed one is queued anew by a later command.
"""

import contextlib
import json
import logging
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from protoformer.atomic import create_folder_atomically, write_text
from protoformer.errors import ConfigurationError, RunFolderError
from protoformer.runs.lock import RunLock, is_in_use
from protoformer.sweeps import methods
from protoformer.sweeps.space import Point
from protoformer.sweeps.specification import Sweep

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial, Trial

log = logging.getLogger(__name__)
PATIENCE = 60.0  # seconds to wait for another worker that takes a trial
RETRY_OF, ATTEMPT, FOLDER, DEVICE, ERROR, SECONDS = "retry_of", "attempt", "folder", "device", "error", "seconds"


@dataclass
class TakenTrial:
    """A trial that this worker runs, and the lock that says so."""

    trial: "Trial"
    point: Point
    folder: Path
    lock: RunLock
    is_continued: bool  # taken over from another worker


class Journal:
    """The study of a sweep; every method may be called by several workers at once."""

    def __init__(self, folder: Path, sweep: Sweep) -> None:
        self.folder, self.sweep = folder, sweep
        if not (folder / "sweep.yaml").exists():
            with create_folder_atomically(folder) as tmp:
                study = _create_study(tmp, sweep)
                for point in sweep.points:
                    study.enqueue_trial(point)
                write_text(tmp / "sweep.yaml", _text(sweep))
        check_same_sweep(folder, sweep)
        self.study = open_study(folder)
        self.study.pruner = methods.build_pruner(sweep.pruner, sweep.pruner_options, sweep.file)

    def prepare(self) -> None:
        """Queue what this command adds: failed trials that may be tried again, and trials up to their number."""
        with self._alone():
            trials = self.study.get_trials(deepcopy=False)
            for trial in failed(trials):
                if (attempt := trial.user_attrs.get(ATTEMPT, 1)) <= self.sweep.retries:
                    self.study.enqueue_trial(trial.params, user_attrs={RETRY_OF: trial.number, ATTEMPT: attempt + 1})
            points = sum(RETRY_OF not in trial.user_attrs for trial in trials)
            for _ in range(self.sweep.trials - points if self.sweep.method != "grid" else 0):
                self.study.enqueue_trial({})

    def take(self) -> TakenTrial | None:
        """The next trial to run: one that another worker left, or the first in the queue; None where there is none."""
        from optuna.trial import Trial  # slow to import

        with self._alone():
            trials = self.study.get_trials(deepcopy=False)
            for trial in trials:
                if trial.state.name == "RUNNING" and not is_in_use(self._folder_of(trial.number)):
                    with contextlib.suppress(RunFolderError):  # of another machine, which may still be alive
                        return self._taken(Trial(self.study, trial._trial_id), is_continued=True)
            queued = [trial.number for trial in trials if trial.state.name == "WAITING"]
            if not queued:
                return None
            sweep = self.sweep
            self.study.sampler = methods.build_sampler(
                sweep.method, sweep.method_options, sweep.sampler_seed, queued[0], sweep.file
            )
            return self._taken(self.study.ask(), is_continued=False)

    def _taken(self, trial: "Trial", is_continued: bool) -> TakenTrial:
        folder = self._folder_of(trial.number)
        lock = RunLock(folder)
        lock.__enter__()
        point = {key: each.suggest(trial, key) for key, each in self.sweep.space.items()}
        return TakenTrial(trial, point, folder, lock, is_continued)

    def _folder_of(self, number: int) -> Path:
        return self.folder / "trials" / f"{number:04d}"

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Within the block no other worker queues or takes a trial."""
        deadline = time.monotonic() + PATIENCE
        while True:
            lock = RunLock(self.folder)
            try:
                lock.__enter__()
                break
            except RunFolderError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
        with contextlib.ExitStack() as stack:
            stack.push(lock.__exit__)
            yield

    def counts(self) -> dict[str, int]:
        """Number of trials by state, failed ones that are tried again not counted."""
        trials = current(self.study.get_trials(deepcopy=False))
        states = ("COMPLETE", "PRUNED", "FAIL", "RUNNING", "WAITING")
        return {state: sum(trial.state.name == state for trial in trials) for state in states}


def current(trials: "list[FrozenTrial]") -> "list[FrozenTrial]":
    """Trials without those that were tried again."""
    replaced = {trial.user_attrs.get(RETRY_OF) for trial in trials}
    return [trial for trial in trials if trial.number not in replaced]


def failed(trials: "list[FrozenTrial]") -> "list[FrozenTrial]":
    return [trial for trial in current(trials) if trial.state.name == "FAIL"]


def check_same_sweep(folder: Path, sweep: Sweep) -> None:
    """Raise ConfigurationError where the journal in a folder is that of another sweep."""
    stored, own = read_identity(folder), json.loads(json.dumps(sweep.identity))
    for part in own:
        theirs, ours = stored.get(part), own[part]
        if theirs == ours:
            continue
        if isinstance(theirs, dict) and isinstance(ours, dict):
            key = next(key for key in (*ours, *theirs) if ours.get(key) != theirs.get(key))
            part, theirs, ours = f"{part}: {key}", theirs.get(key), ours.get(key)
        raise ConfigurationError(
            f"{folder} holds another sweep: {part} is {_short(theirs)} there and {_short(ours)} in {sweep.file}; name this one "
            "anew (name: in its file), give it a folder by --folder, or remove that folder (finished runs stay in their own)"
        )


def read_identity(folder: Path) -> dict[str, Any]:
    """sweep.yaml: the name of a sweep, and what its journal belongs to."""
    file = folder / "sweep.yaml"
    try:
        node = yaml.safe_load(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigurationError(f"{folder} is no sweep's folder: it has no sweep.yaml") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigurationError(f"{file} cannot be read: {' '.join(str(error).split())}") from None
    if not isinstance(node, dict) or not isinstance(node.get("space"), dict):
        raise ConfigurationError(f"{file} is not that of a sweep: it has no space")
    return node


def open_study(folder: Path) -> "Study":
    """The study in a sweep's folder. Raises ConfigurationError for a journal that cannot be read."""
    file = folder / "journal.log"
    _check_journal(file)
    optuna = _quiet_optuna()
    try:
        return optuna.load_study(study_name=None, storage=_storage(file))
    except (KeyError, ValueError, TypeError) as error:
        raise ConfigurationError(f"{file} is not the journal of one sweep: {' '.join(str(error).split())}") from None


def _create_study(folder: Path, sweep: Sweep) -> "Study":
    optuna = _quiet_optuna()
    return optuna.create_study(
        study_name=sweep.name, direction=sweep.direction, storage=_storage(folder / "journal.log")
    )


def _storage(file: Path) -> Any:
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    return JournalStorage(JournalFileBackend(str(file)))


def _quiet_optuna() -> Any:
    import optuna  # over a second: not at the top

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    return optuna


def _check_journal(file: Path) -> None:
    """Each line is an operation. The end of a line that a killed worker was writing is removed; any other is refused."""
    try:
        text = file.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{file} cannot be read: {error.strerror or error}") from None
    lines = text.split(b"\n")
    for number, line in enumerate(lines[:-1], start=1):
        try:
            readable = isinstance(json.loads(line), dict)
        except ValueError:
            readable = False
        if not readable:
            raise ConfigurationError(
                f"{file}, line {number}: not an operation of Optuna's journal ({line[:40].decode(errors='replace')!r}); "
                "restore the file, or remove the sweep's folder (finished runs stay in their own and are not trained again)"
            )
    if lines[-1]:
        _remove_unfinished_line(file)


def _remove_unfinished_line(file: Path) -> None:
    from optuna.storages.journal import JournalFileSymlinkLock  # slow to import

    lock = JournalFileSymlinkLock(str(file))
    lock.acquire()  # nobody is writing now
    try:
        text = file.read_bytes()
        if not text.endswith(b"\n"):
            log.warning("%s: an unfinished last line, of a worker that was killed, is removed", file)
            with file.open("r+b") as journal:
                journal.truncate(text.rfind(b"\n") + 1)
    finally:
        lock.release()


def _text(sweep: Sweep) -> str:
    return yaml.safe_dump(
        {"name": sweep.name, **json.loads(json.dumps(sweep.identity))}, sort_keys=False, allow_unicode=True
    )


def _short(value: object) -> str:
    text = "not there" if value is None else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."
