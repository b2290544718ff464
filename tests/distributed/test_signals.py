"""Handlers only note: a stop comes at a safe place, whatever runs; a second signal, or too long a wait, ends the process."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator

import pytest

from protoformer.distributed import signals
from protoformer.errors import InterruptedRunError


@pytest.fixture(autouse=True)
def default_signals() -> Iterator[None]:
    """Ctrl-C is ignored where these tests are a background job."""
    before = {number: signal.signal(number, signal.SIG_DFL) for number in signals.STOP_SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def wait_for(stop: signals.StopRequest) -> None:
    deadline = time.monotonic() + 5
    while not stop.requested and time.monotonic() < deadline:
        time.sleep(0.01)
    assert stop.requested


def run(code: str, *, ignored: tuple[signal.Signals, ...] = ()) -> subprocess.CompletedProcess[str]:
    """A process that listens while `code` runs, in which `kill(name)` sends it a signal."""
    program = f"""
import os, signal, sys, time
from protoformer.distributed import signals
from protoformer.errors import InterruptedRunError
signals.PATIENCE = 0.5
signals.REPEATED_AFTER = 0.1
kill = lambda name: os.kill(os.getpid(), getattr(signal, name))
try:
    with signals.listen() as stop:
{textwrap.indent(textwrap.dedent(code).strip(), " " * 8)}
except InterruptedRunError as error:
    print("error:", error, file=sys.stderr)
    sys.exit(error.exit_code)
"""

    def dispositions() -> None:
        for number in signals.STOP_SIGNALS:
            signal.signal(number, signal.SIG_IGN if number in ignored else signal.SIG_DFL)

    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=30, preexec_fn=dispositions
    )


def test_a_signal_is_noted_and_raised_at_the_safe_place_alone() -> None:
    with signals.listen() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        wait_for(stop)
        with pytest.raises(InterruptedRunError, match="the same command continues") as caught:
            signals.check()
        assert caught.value.exit_code == 143
    signals.check()  # nobody listens, nothing is requested
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_ctrl_c_has_its_own_exit_code_and_inner_blocks_are_the_outer_one() -> None:
    with signals.listen() as outer, signals.listen() as inner:
        assert inner is outer
        os.kill(os.getpid(), signal.SIGINT)
        wait_for(outer)
        assert inner.grant(step=3).exit_code == 130


def test_a_signal_inside_of_somebody_elses_except_is_not_lost() -> None:
    done = run("""
        try:
            kill("SIGTERM")  # as in the middle of an import
            time.sleep(0.1)
        except Exception:
            pass
        print("imported")
        stop.check()
        """)
    assert (done.returncode, done.stdout) == (143, "imported\n")
    assert done.stderr == "error: stopped; the same command continues from there\n"


def test_without_a_safe_place_in_time_the_process_ends_and_cleans_up() -> None:
    done = run("""
        signals._clean_ups.append(lambda: print("cleaned up"))
        kill("SIGINT")
        time.sleep(20)
        """)
    assert (done.returncode, done.stdout) == (130, "cleaned up\n")
    assert done.stderr == "error: stopped; the same command continues from there\n"


def test_steps_are_waited_for_until_a_second_signal() -> None:
    done = run("""
        stop.begin_steps()
        kill("SIGTERM"); kill("SIGTERM")  # to the process and to its group
        time.sleep(1.0)
        print("still here", stop.requested)
        kill("SIGUSR1")  # a cluster sends several
        time.sleep(0.3)
        print("still here")
        kill("SIGTERM")
        time.sleep(20)
        """)
    assert (done.returncode, done.stdout) == (143, "still here True\nstill here\n")
    assert "without saving the last steps" in done.stderr


def test_a_rank_that_ends_because_another_was_lost_does_not_wait_for_it() -> None:
    done = run("""
        stop.is_meant = lambda: False
        kill("SIGTERM")
        time.sleep(0.1)
        try:
            stop.check()
        except InterruptedRunError:
            time.sleep(20)  # as the end of a process group does
        """)
    assert done.returncode == 143
    assert done.stderr == "error: stopped; the same command continues from there\n"


def test_ignored_signals_stay_ignored() -> None:
    done = run(
        """
        kill("SIGHUP"); kill("SIGINT")  # nohup, a script's background job
        time.sleep(0.1)
        print(stop.requested)
        kill("SIGTERM")
        time.sleep(20)
        """,
        ignored=(signal.SIGHUP, signal.SIGINT),
    )
    assert (done.returncode, done.stdout) == (143, "False\n")
