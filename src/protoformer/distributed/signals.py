"""Signals: TERM, USR1, HUP and Ctrl-C end a run where it can be continued, with an exit code that says so.

A handler never raises: an exception in the middle of somebody else's import or clean-up is swallowed there, or leaves half a
module. It notes the signal, and the run ends with InterruptedRunError at the next safe place (`check`), while training steps
run after the current step. A thread ends the process where none comes within PATIENCE seconds, or on a second signal.
"""

import contextlib
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType

from protoformer import atomic
from protoformer.errors import InterruptedRunError, UserError

STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT, signal.SIGHUP)
SIGINT_EXIT_CODE = 130  # 128 + SIGINT, as shells report it
PATIENCE = 3.0  # seconds from a signal to the next safe place, outside of training steps
REPEATED_AFTER = 1.0  # seconds; a signal that comes sooner is the same one (to a process and to its group)


def interrupted_error(signal_number: int, step: int | None = None) -> InterruptedRunError:
    """The error that a stopped run ends with; Ctrl-C has an exit code of its own."""
    at_step = "" if step is None else f" at step {step}"
    error = InterruptedRunError(f"stopped{at_step}; the same command continues from there")
    if signal_number == signal.SIGINT:
        error.exit_code = SIGINT_EXIT_CODE
    return error


class StopRequest:
    """A request to stop the run: made on one rank by a signal, agreed on by all ranks, granted at a safe place.

    While training steps run, `requested` travels to the other ranks with the step's own reduction (see
    `modules.gradient_normalizer`), which calls `agree` on each of them: so all ranks save and stop after the same step. Before
    and after training nothing is unsaved, and `check` ends the run.
    """

    def __init__(self) -> None:
        self.signal_number = 0  # the first signal; 0: none has come
        self.agreed = False
        self.is_meant: Callable[[], bool] = lambda: True  # whether the run is to stop, and not only this rank
        self.report: Callable[[UserError], None] = _print_error
        self._received_at = 0.0
        self._granted_at = 0.0
        self._repeated = self._steps_run = False
        self._forward: Callable[[int], None] | None = None

    @property
    def requested(self) -> bool:
        """Whether this rank was asked to stop."""
        return self.signal_number > 0

    def begin_steps(self) -> None:
        """From now on a signal is granted after a step."""
        self._steps_run = True

    def end_steps(self) -> None:
        """From now on a signal is granted by `check`."""
        self._steps_run = self.agreed = False

    def agree(self, agreed: bool) -> None:
        """Take over what all ranks know after a step: whether any of them was asked to stop."""
        self.agreed = agreed

    def check(self) -> None:
        """A safe place outside of training steps: raises InterruptedRunError where a stop was requested."""
        if self.requested:
            raise self.grant()

    def grant(self, step: int | None = None) -> InterruptedRunError:
        """The error to raise now; from here on a second signal alone ends the process sooner."""
        self._granted_at = time.monotonic()
        return interrupted_error(self.signal_number, step)

    @contextlib.contextmanager
    def forwarded_to(self, forward: Callable[[int], None]) -> Iterator[None]:
        """Within the block each signal is for other processes: `forward` is called with its number in a thread, also with
        that of an earlier one."""
        self._forward = forward
        if self.requested:
            forward(self.signal_number)
        try:
            yield
        finally:
            self._forward = None

    def note(self, signal_number: int, frame: FrameType | None = None) -> None:
        """Signal handler."""
        self.signal_number = self.signal_number or signal_number

    def receive(self, signal_number: int) -> None:
        """Note a signal in the watching thread, which also runs while the main thread is inside of compiled code."""
        now = time.monotonic()
        if not self._received_at:
            self._received_at = now
        elif now - self._received_at > REPEATED_AFTER:  # TERM after USR1 does not hurry: a cluster sends both
            self._repeated |= signal_number in (signal.SIGINT, self.signal_number)
        self.note(signal_number)
        if self._forward is not None:
            self._forward(signal_number)

    def is_overdue(self) -> bool:
        """Whether the process must end without a safe place: nothing is lost but training steps since the last checkpoint."""
        if self._forward is not None or not self._received_at:
            return False
        if self._repeated:
            return True
        if self.is_meant() and (self._granted_at or self._steps_run):
            return False  # it saves after a step, or is on its way out
        # a rank alone: another one was lost, and what follows may wait for it
        return time.monotonic() - max(self._received_at, self._granted_at) > PATIENCE

    def end_process(self) -> None:
        """End the process at once, from any thread; half-written files and the owned lock go first."""
        error = interrupted_error(self.signal_number)
        if self._steps_run:
            error.args = ("stopped without saving the last steps; the same command continues from the last checkpoint",)
        self.end_with(error)

    def end_with(self, error: UserError, then: Callable[[], None] = lambda: None) -> None:
        """End the process at once with an error, from any thread; `then` is called when it is reported."""
        report = (lambda: self.report(error), sys.stdout.flush, then)
        for clean_up in (*reversed(_clean_ups), atomic.remove_unfinished, *report):
            with contextlib.suppress(Exception):
                clean_up()
        os._exit(error.exit_code)


_current: StopRequest | None = None  # of this process, while it listens
_clean_ups: list[Callable[[], None]] = []


def check() -> None:
    """A safe place: raises InterruptedRunError where this process was asked to stop."""
    if _current is not None:
        _current.check()


def received() -> int:
    """The first signal that asked this process to stop; 0: none has come."""
    return 0 if _current is None else _current.signal_number


@contextlib.contextmanager
def cleaned_up_by(clean_up: Callable[[], None]) -> Iterator[None]:
    """Within the block `clean_up` is called before the process ends without unwinding its stack."""
    _clean_ups.append(clean_up)
    try:
        yield
    finally:
        _clean_ups.remove(clean_up)


@contextlib.contextmanager
def listen(afterwards: Callable[[], None] | None = None) -> Iterator[StopRequest]:
    """Note STOP_SIGNALS within the block; an ignored signal stays ignored (nohup, Ctrl-C in a rank or a background job). After
    the block they do what they did before, or call `afterwards`.

    The outermost block of a process counts. Outside of the main thread no signal can be handled, and none is.
    """
    global _current
    if _current is not None or threading.current_thread() is not threading.main_thread():
        yield _current or StopRequest()
        return
    stop = _current = StopRequest()
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    threading.Thread(target=_watch, args=(stop, read_end), daemon=True, name="stop-signals").start()
    previous_wakeup = signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
    handled = [number for number in STOP_SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
    previous = {number: signal.signal(number, stop.note) for number in handled}
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler if afterwards is None else lambda *_: afterwards())
        signal.set_wakeup_fd(previous_wakeup)
        os.close(write_end)
        _current = None


@contextlib.contextmanager
def blocked() -> Iterator[None]:
    """Block STOP_SIGNALS in this thread within the block: processes that it starts have them blocked, too, and other threads
    of this process take them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def unblock() -> None:
    """Take STOP_SIGNALS in this thread: those that came while they were blocked are delivered now."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)


def _watch(stop: StopRequest, read_end: int) -> None:
    """Read signal numbers from the pipe to which the interpreter writes them, until its other end is closed."""
    unblock()
    while True:
        ready, _, _ = select.select([read_end], [], [], 0.1 if stop.requested else None)
        if ready:
            numbers = os.read(read_end, 256)
            if not numbers:
                os.close(read_end)
                return
            for number in numbers:
                if number in STOP_SIGNALS:  # others with handlers in Python are written, too
                    stop.receive(number)
        if stop.is_overdue():
            stop.end_process()


def _forget_in_child() -> None:
    """A forked process has no watching thread, and its signals are not its parent's."""
    global _current
    if _current is None:
        return
    _current = None
    _clean_ups.clear()
    signal.set_wakeup_fd(-1)
    for number in STOP_SIGNALS:
        if signal.getsignal(number) != signal.SIG_IGN:
            default = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
            signal.signal(number, default)


def _print_error(error: UserError) -> None:
    print(f"error: {error}", file=sys.stderr, flush=True)


os.register_at_fork(after_in_child=_forget_in_child)
