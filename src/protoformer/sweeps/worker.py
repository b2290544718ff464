"""A worker: takes trials from the journal, runs each as a process, feeds the pruner, and records how each ended."""

import contextlib
import math
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from protoformer.config import compose
from protoformer.distributed.signals import StopRequest
from protoformer.errors import DiskFullError, InterruptedRunError, UserError
from protoformer.pool.pool import POLL, Pool, RunningTrial, remaining
from protoformer.pool.slots import Placement, Slots
from protoformer.pool.words import words_of_trial
from protoformer.runs.folder import RunFolder
from protoformer.sweeps.journal import DEVICE, ERROR, FOLDER, SECONDS, Journal, TakenTrial
from protoformer.sweeps.scores import RunScores
from protoformer.sweeps.space import overrides_of

STOPPED = InterruptedRunError.exit_code


@dataclass
class SweepTrial(RunningTrial):
    """A trial of this worker and its process."""

    taken: TakenTrial
    scores: RunScores
    text: str
    earlier_seconds: float
    reported: int = 0  # validations that Optuna knows
    is_pruned: bool = False
    is_lost: bool = field(default=False)  # another worker has taken it over


class Located(NamedTuple):
    """Where a trial's run stands or will stand, the overrides of its process, and what it needs."""

    folder: Path
    words: list[str]
    grace: float  # seconds to save in
    slots: int


class Worker(Pool[SweepTrial]):
    """Runs trials of a journal side by side until none is left, or until it is stopped."""

    def __init__(
        self, journal: Journal, say: Callable[[str], None], slots: Slots | None = None, poll: float = POLL
    ) -> None:
        super().__init__(slots or Slots.anywhere(), say, poll)
        self.journal, self.sweep = journal, journal.sweep
        self._waiting: tuple[TakenTrial, Located] | None = None  # taken, until its slots are free

    def run(self, stop: StopRequest) -> None:
        try:
            super().run(stop)
        finally:
            if self._waiting is not None:
                self._release(self._waiting[0])

    def located(self, words: Sequence[str]) -> Located:
        """Raises UserError where the words do not compose."""
        config = compose.compose(words)
        return Located(
            RunFolder.locate(config, force=config["force"]).path,
            words_of_trial(words, config),
            float(config["hardware"]["grace"]),
            self.slots.needed(config),
        )

    def start_next(self) -> bool:
        if self._waiting is None:
            taken = self.journal.take() if self.slots.free else None
            if taken is None:
                return False
            try:
                self._waiting = (taken, self.located(self.sweep.words(overrides_of(taken.point))))
            except UserError as error:
                taken.trial.set_user_attr(ERROR, str(error))
                self._record(taken, None, f"trial {taken.trial.number}: {_text(taken)}: failed: {error}")
                return True
        taken, located = self._waiting
        if any(each.scores.folder == located.folder for each in self.running):
            return False  # the same run: its result is there when that trial has ended
        placement = self.slots.take(located.slots)
        if placement is None:
            return False
        self._waiting = None
        self._start(taken, located, placement)
        return True

    def _start(self, taken: TakenTrial, located: Located, placement: Placement) -> None:
        trial = taken.trial
        trial.set_user_attr(FOLDER, str(located.folder))
        on_device = ""
        if self.slots.is_pinned:
            on_device = f" on {placement.device}"
            trial.set_user_attr(DEVICE, placement.device)
        again = " (continued)" if taken.is_continued else ""
        self.say(f"trial {trial.number}{on_device}: {_text(taken)}{again}")
        frozen = next(each for each in self.journal.study.get_trials(deepcopy=False) if each.number == trial.number)
        words = [*located.words, f"tracking.sweep={self.sweep.name}"]
        process = self.start(words, taken.folder / "output.log", located.grace, placement)
        started = SweepTrial(
            process,
            placement,
            taken,
            RunScores(located.folder, self.sweep.objective),
            _text(taken),
            float(frozen.user_attrs.get(SECONDS, 0.0)),
            len(frozen.intermediate_values),
        )
        taken.lock.lost = lambda: setattr(started, "is_lost", True)
        self.begin(started)

    def look_at(self, each: SweepTrial) -> None:
        if each.is_lost:
            each.process.kill()
        code = each.process.poll()
        self._report_validations(each, may_prune=code is None)
        if code is None:
            return
        self.end(each)
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
            self._record(each.taken, "pruned", f"{name}: pruned after {each.reported} validations, {seconds:.0f} s")
        elif code == DiskFullError.exit_code:
            self.stop_for_full_disk(each)
            self._release(each.taken)
            self.say(f"{name}: {self.disk_error}")
        elif self.is_stopping:  # also one that did not save in time: it goes on from its last checkpoint
            self._release(each.taken)
        else:
            reason = each.process.reason()
            trial.set_user_attr(ERROR, reason)
            self._record(each.taken, None, f"{name}: failed: {reason}; {each.process.log_file}")

    def _report_validations(self, each: SweepTrial, may_prune: bool) -> None:
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

    def _end_finished(self, each: SweepTrial, name: str, seconds: float) -> None:
        try:
            value = each.scores.final()
            if not math.isfinite(value):
                raise UserError(f"{self.sweep.objective} is {value}")
        except UserError as error:
            each.taken.trial.set_user_attr(ERROR, str(error))
            self._record(each.taken, None, f"{name}: failed: {error}")
            return
        self._record(each.taken, value, f"{name}: {self.sweep.objective} {value:.4f} in {seconds:.0f} s")

    def _record(self, taken: TakenTrial, outcome: float | str | None, line: str) -> None:
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

    def remaining(self) -> str:
        counts = self.journal.counts()
        return remaining(counts["RUNNING"], counts["WAITING"])


def _text(taken: TakenTrial) -> str:
    return shlex.join(overrides_of(taken.point))
