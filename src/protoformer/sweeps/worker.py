"""A worker: takes trials from the journal, runs each as a process, feeds the pruner, and records how each ended."""

import contextlib
import math
import shlex
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from protoformer.config import compose
from protoformer.distributed.signals import StopRequest
from protoformer.errors import DiskFullError, InterruptedRunError, UserError
from protoformer.runs.folder import RunFolder
from protoformer.sweeps.journal import ERROR, FOLDER, SECONDS, Journal, TakenTrial
from protoformer.sweeps.space import overrides_of
from protoformer.sweeps.trial_process import RunScores, TrialProcess

POLL = 0.5  # seconds between two looks at the trials
GRACE = 60.0  # seconds to save in, besides hardware.grace
STOPPED = InterruptedRunError.exit_code


@dataclass
class RunningTrial:
    """A trial of this worker and its process."""

    taken: TakenTrial
    process: TrialProcess
    scores: RunScores
    text: str
    earlier_seconds: float
    reported: int = 0  # validations that Optuna knows
    is_pruned: bool = False
    is_lost: bool = field(default=False)  # another worker has taken it over


def run_folder(words: Sequence[str]) -> tuple[Path, float]:
    """Where a trial's run stands or will stand, and its hardware.grace. Raises UserError where the words do not compose."""
    config = compose.compose(words)
    return RunFolder.locate(config, force=config["force"]).path, float(config["hardware"]["grace"])


class Worker:
    """Runs trials of a journal side by side until none is left, or until it is stopped.

    `located` gives a trial's run folder and the seconds that it may take to save.
    """

    def __init__(
        self,
        journal: Journal,
        say: Callable[[str], None],
        located: Callable[[Sequence[str]], tuple[Path, float]] = run_folder,
        poll: float = POLL,
    ) -> None:
        self.journal, self.say, self.located, self.poll = journal, say, located, poll
        self.sweep = journal.sweep
        self.running: list[RunningTrial] = []
        self.signal_number = 0
        self.disk_error: str | None = None

    def run(self, stop: StopRequest) -> None:
        """Raises InterruptedRunError after a signal and DiskFullError after a full disk: the same command continues."""
        with stop.forwarded_to(self._on_signal):
            try:
                while self._step():
                    time.sleep(self.poll)
            except BaseException:
                for each in self.running:
                    each.process.kill()
                raise
        if self.signal_number:
            error = stop.grant()
            error.args = (f"stopped: {self._remaining()}; the same command continues",)
            raise error
        if self.disk_error is not None:
            raise DiskFullError(self.disk_error)

    @property
    def is_stopping(self) -> bool:
        return bool(self.signal_number) or self.disk_error is not None

    def _step(self) -> bool:
        """Look at what runs and start what can be started; returns whether anything runs."""
        for each in list(self.running):
            self._look_at(each)
        while len(self.running) < self.sweep.workers and not self.is_stopping:
            taken = self.journal.take()
            if taken is None:
                break
            self._start(taken)
        return bool(self.running)

    def _start(self, taken: TakenTrial) -> None:
        trial, words = taken.trial, self.sweep.words(overrides_of(taken.point))
        text = shlex.join(overrides_of(taken.point))
        try:
            folder, grace = self.located(words)
        except UserError as error:
            trial.set_user_attr(ERROR, str(error))
            self._end(taken, None, f"trial {trial.number}: {text}: failed: {error}")
            return
        trial.set_user_attr(FOLDER, str(folder))
        again = " (continued)" if taken.is_continued else ""
        self.say(f"trial {trial.number}: {text}{again}")
        frozen = next(each for each in self.journal.study.get_trials(deepcopy=False) if each.number == trial.number)
        process = TrialProcess(
            [*words, f"tracking.sweep={self.sweep.name}"], taken.folder / "output.log", grace + GRACE
        )
        started = RunningTrial(
            taken,
            process,
            RunScores(folder, self.sweep.objective),
            text,
            float(frozen.user_attrs.get(SECONDS, 0.0)),
            len(frozen.intermediate_values),
        )
        taken.lock.lost = lambda: setattr(started, "is_lost", True)
        self.running.append(started)
        if self.signal_number:
            process.stop()

    def _look_at(self, each: RunningTrial) -> None:
        if each.is_lost:
            each.process.kill()
        code = each.process.poll()
        self._report_validations(each, may_prune=code is None)
        if code is None:
            return
        self.running.remove(each)
        if each.is_lost:
            each.taken.lock.__exit__(None, None, None)
            self.say(f"trial {each.taken.trial.number}: taken over by another worker")
            return
        trial, name = each.taken.trial, f"trial {each.taken.trial.number}: {each.text}"
        seconds = each.earlier_seconds + each.process.seconds
        trial.set_user_attr(SECONDS, round(seconds, 3))
        if code == 0:
            self._end_finished(each, name, seconds)
        elif each.is_pruned and (code == STOPPED or code < 0):  # negative: it did not save in time
            trial.set_user_attr(ERROR, f"pruned after {each.reported} validations")
            self._end(each.taken, "pruned", f"{name}: pruned after {each.reported} validations, {seconds:.0f} s")
        elif code == DiskFullError.exit_code:
            self.disk_error = each.process.reason()
            self._release(each.taken)
            self.say(f"{name}: {self.disk_error}")
            for other in self.running:
                other.process.stop()
        elif self.is_stopping:  # also one that did not save in time: it goes on from its last checkpoint
            self._release(each.taken)
        else:
            reason = each.process.reason()
            trial.set_user_attr(ERROR, reason)
            self._end(each.taken, None, f"{name}: failed: {reason}; {each.process.log_file}")

    def _report_validations(self, each: RunningTrial, may_prune: bool) -> None:
        """Give the pruner the scores of new validations, numbered from 1; a pruned run saves and ends."""
        if self.sweep.pruner == "none":
            return
        values = each.scores.validations()
        for number, value in enumerate(values[each.reported :], start=each.reported + 1):
            each.taken.trial.report(value, number)
            each.reported = number
            if may_prune and not each.is_pruned and not self.is_stopping and each.taken.trial.should_prune():
                each.is_pruned = True
                each.process.stop()

    def _end_finished(self, each: RunningTrial, name: str, seconds: float) -> None:
        try:
            value = each.scores.final()
            if not math.isfinite(value):
                raise UserError(f"{self.sweep.objective} is {value}")
        except UserError as error:
            each.taken.trial.set_user_attr(ERROR, str(error))
            self._end(each.taken, None, f"{name}: failed: {error}")
            return
        self._end(each.taken, value, f"{name}: {self.sweep.objective} {value:.4f} in {seconds:.0f} s")

    def _end(self, taken: TakenTrial, outcome: float | str | None, line: str) -> None:
        """Record a trial's value, that it was pruned, or (None) that it failed."""
        from optuna.trial import TrialState  # slow to import

        study = self.journal.study
        if isinstance(outcome, float):
            study.tell(taken.trial, outcome)
        else:
            study.tell(taken.trial, state=TrialState.PRUNED if outcome == "pruned" else TrialState.FAIL)
        self._release(taken)
        self.say(line)

    @staticmethod
    def _release(taken: TakenTrial) -> None:
        taken.lock.__exit__(None, None, None)
        with contextlib.suppress(OSError):
            taken.folder.rmdir()  # of a trial that never started

    def _on_signal(self, number: int) -> None:
        """In the watching thread: every signal is for the trials."""
        self.signal_number = self.signal_number or number
        for each in list(self.running):
            each.process.stop()

    def _remaining(self) -> str:
        counts = self.journal.counts()
        return f"{counts['RUNNING']} trials unfinished and {counts['WAITING']} not started"
