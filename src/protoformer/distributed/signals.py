"""Signals: TERM, USR1, HUP and Ctrl-C end a run where it can be continued, with an exit code that says so."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from protoformer.errors import InterruptedRunError

STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT, signal.SIGHUP)
SIGINT_EXIT_CODE = 130  # 128 + SIGINT, as shells report it


def interrupted_error(signal_number: int, step: int | None = None) -> InterruptedRunError:
    """The error that a stopped run ends with; Ctrl-C has an exit code of its own."""
    at_step = "" if step is None else f" at step {step}"
    error = InterruptedRunError(f"stopped{at_step}; the same command continues from there")
    if signal_number == signal.SIGINT:
        error.exit_code = SIGINT_EXIT_CODE
    return error


class StopRequest:
    """A request to stop the run: made on one rank by a signal, agreed on by all ranks, granted after a step.

    While training steps run, a signal is only noted. `requested` then travels to the other ranks with the step's own
    reduction (see `modules.gradient_normalizer`), which calls `agree` on each of them: so all ranks save and stop after the
    same step. Before and after training nothing is unsaved, and a signal ends the run at once.
    """

    def __init__(self) -> None:
        self.signal_number = 0  # 0: no signal has come
        self.agreed = False
        self._steps_run = False

    @property
    def requested(self) -> bool:
        """Whether this rank was asked to stop."""
        return self.signal_number > 0

    def begin_steps(self) -> None:
        """From now on a signal is noted and granted after a step."""
        self._steps_run = True

    def end_steps(self) -> None:
        """From now on a signal ends the run at once."""
        self._steps_run = False

    def agree(self, agreed: bool) -> None:
        """Take over what all ranks know after a step: whether any of them was asked to stop."""
        self.agreed = agreed

    def handle(self, signal_number: int, frame: FrameType | None) -> None:
        """Signal handler. Raises InterruptedRunError outside of training steps, KeyboardInterrupt on a second Ctrl-C."""
        if not self._steps_run:
            raise interrupted_error(signal_number)
        if signal_number == signal.SIGINT and self.signal_number == signal_number:
            raise KeyboardInterrupt
        self.signal_number = signal_number


@contextmanager
def stop_on_signal() -> Iterator[StopRequest]:
    """Handle STOP_SIGNALS within the block; a signal that is ignored stays ignored (Ctrl-C in a rank, which its parent
    forwards as TERM)."""
    stop = StopRequest()
    handled = [number for number in STOP_SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
    previous = {number: signal.signal(number, stop.handle) for number in handled}
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
