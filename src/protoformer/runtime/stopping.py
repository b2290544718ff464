"""What TERM and USR1 do to a run: end it where it can be continued, with an exit code that says so."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import lightning.pytorch as pl

from protoformer.errors import InterruptedRunError
from protoformer.modules.objective import ObjectiveModule

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)


@contextmanager
def stop_on_signal(module: ObjectiveModule, trainer: pl.Trainer) -> Iterator[None]:
    """While training steps run, a signal is a wish that all ranks grant after the same step, having saved.

    Before and after them the run has nothing to save that is not on the disk, and ends at once. Lightning's own handlers
    would end the process with exit code 0, and run a collective inside a signal handler: they stay out.
    """

    def ask(number: int, frame: FrameType | None) -> None:
        module.stop_wanted = True
        if not module.stoppable:
            raise stopped()

    trainer._signal_connector.register_signal_handlers = lambda: None  # type: ignore[method-assign]
    before = {number: signal.signal(number, ask) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def stopped(step: int | None = None) -> InterruptedRunError:
    where = "" if step is None else f" at step {step}"
    return InterruptedRunError(f"stopped{where}; the same command continues from there")
