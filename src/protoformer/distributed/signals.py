"""What TERM, USR1, HUP and Ctrl-C do to a run: end it where it can be continued, with an exit code that says so."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Protocol

from protoformer.errors import InterruptedRunError

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT, signal.SIGHUP)
BY_HAND = 130


def stopped(number: int, step: int | None = None) -> InterruptedRunError:
    """The error that a stopped run ends with; Ctrl-C has an exit code of its own."""
    where = "" if step is None else f" at step {step}"
    error = InterruptedRunError(f"stopped{where}; the same command continues from there")
    if number == signal.SIGINT:
        error.exit_code = BY_HAND
    return error


class Stoppable(Protocol):
    """A module that ends its training after the current step when it is asked to."""

    stoppable: bool
    stop_wanted: int


class Stop:
    """Who is asked to stop. While training steps run that is the module, and all ranks stop after the same step, having
    saved; before and after them nothing is to be saved that is not on the disk, and the run ends at once."""

    def __init__(self) -> None:
        self.module: Stoppable | None = None

    def watch(self, module: Stoppable, trainer: Any) -> None:
        """From now on `module` is asked. Lightning's own handlers would end the process with exit code 0, and run a
        collective inside a signal handler: they stay out."""
        self.module = module
        trainer._signal_connector.register_signal_handlers = lambda: None

    def ask(self, number: int, frame: FrameType | None) -> None:
        if self.module is None or not self.module.stoppable:
            raise stopped(number)
        if number == signal.SIGINT and self.module.stop_wanted == number:
            raise KeyboardInterrupt  # asked twice
        self.module.stop_wanted = number


@contextmanager
def stop_on_signal() -> Iterator[Stop]:
    """Handles SIGNALS for a run's whole life; one that is ignored (Ctrl-C in a rank, which its parent passes on) stays so."""
    stop = Stop()
    before = {n: signal.signal(n, stop.ask) for n in SIGNALS if signal.getsignal(n) != signal.SIG_IGN}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
