"""A pool: starts trials while slots are free, watches their processes, and passes a stop on to all of them."""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from protoformer.distributed.signals import StopRequest
from protoformer.errors import DiskFullError
from protoformer.pool.process import TrialProcess
from protoformer.pool.slots import Placement, Slots

POLL = 0.5  # seconds between two looks at the trials
GRACE = 60.0  # seconds to save in, besides hardware.grace


@dataclass
class RunningTrial:
    """A trial's process, and the slots that it has."""

    process: TrialProcess
    placement: Placement


Trial = TypeVar("Trial", bound=RunningTrial)


class Pool(ABC, Generic[Trial]):
    """Runs trials side by side until none is left, or until it is stopped. A trial that fails is not the end of others."""

    def __init__(self, slots: Slots, say: Callable[[str], None], poll: float = POLL) -> None:
        self.slots, self.say, self.poll = slots, say, poll
        self.running: list[Trial] = []
        self.signal_number = 0
        self.disk_error: str | None = None

    @abstractmethod
    def start_next(self) -> bool:
        """Begin the next trial where there is one whose slots are free; returns whether there was (it may have failed)."""

    @abstractmethod
    def look_at(self, trial: Trial) -> None:
        """Take note of what a trial does; `end` it when its process has ended."""

    @abstractmethod
    def remaining(self) -> str:
        """What is not finished, in words."""

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
            error.args = (f"stopped: {self.remaining()}; the same command continues",)
            raise error
        if self.disk_error is not None:
            raise DiskFullError(self.disk_error)

    @property
    def is_stopping(self) -> bool:
        return bool(self.signal_number) or self.disk_error is not None

    def begin(self, trial: Trial) -> None:
        """Take note of a trial whose process has started."""
        self.running.append(trial)
        if self.signal_number:
            trial.process.stop()

    def end(self, trial: Trial) -> None:
        """Take note that a trial's process has ended; its slots are free again."""
        self.running.remove(trial)
        self.slots.give_back(trial.placement)

    def stop_for_full_disk(self, trial: Trial) -> None:
        """The other trials save and end: they write to the same disk."""
        self.disk_error = trial.process.reason()
        for other in self.running:
            other.process.stop()

    def _step(self) -> bool:
        """Look at what runs and start what can be started; returns whether anything runs."""
        for each in list(self.running):
            self.look_at(each)
        while not self.is_stopping and self.start_next():
            pass
        return bool(self.running)

    def _on_signal(self, number: int) -> None:
        """In the watching thread: every signal is for the trials."""
        self.signal_number = self.signal_number or number
        for each in list(self.running):
            each.process.stop()

    def start(self, words: list[str], log_file: Path, grace: float, placement: Placement) -> TrialProcess:
        """Start the process of a trial; where that fails its slots are free again."""
        try:
            return TrialProcess(words, log_file, grace + GRACE, placement)
        except BaseException:
            self.slots.give_back(placement)
            raise


def remaining(unfinished: int, queued: int) -> str:
    """What a stopped pool has not finished."""
    return f"{unfinished} trial{'' if unfinished == 1 else 's'} unfinished and {queued} not started"
