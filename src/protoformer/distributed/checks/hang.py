"""Hung ranks: where some ranks wait in a collective that others never enter, the job ends, and one line says who and where.

torch ends a collective after its timeout, too, but says neither which rank is missing nor what it does: nccl aborts the
process, gloo raises somewhere in the backward pass. Here a thread in each rank posts the number of collectives that the rank
has entered. Ranks whose numbers differ, and of which none has moved for `hardware.timeout` seconds, are hung; waits of the
hosts without a collective, as for a first rank that tokenises, are not.
"""

import contextlib
import faulthandler
import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import distributed

from protoformer.distributed.signals import StopRequest
from protoformer.distributed.world import rank, world_size
from protoformer.errors import HungRankError

LONGEST_POLL = 30.0  # seconds
WRAPPERS = ("wrapper", "inner")  # functions of decorators
PACKAGE = Path(__file__).parents[2]
PATIENCE = 10.0  # seconds, after which a rank ends that should have been ended by another one


@dataclass(frozen=True)
class Beat:
    """What a rank posts: how many collectives it has entered, where it is in the run, and its process."""

    entered: int
    position: str
    host: str
    pid: int


class HangWatch:
    """A thread that ends this rank when ranks wait for each other in vain, until it is closed.

    `position` says where in the run this rank is. The stack of each rank that did not arrive is written into `folder`.
    """

    def __init__(self, stop: StopRequest, folder: Path, timeout: float) -> None:
        self.stop, self.folder, self.timeout = stop, folder / "stacks", timeout
        self.position: Callable[[], str] = lambda: "before training"
        self.poll_seconds = min(LONGEST_POLL, timeout / 20)
        store: Any = distributed.distributed_c10d._get_default_store()
        self._store = store.clone()  # this thread's own connection
        # all collectives run in the default group; its backend here, since the group looks it up in a map that others change
        group: Any = distributed.group.WORLD
        self._backend = group._get_backend(torch.device("cuda" if distributed.get_backend() == "nccl" else "cpu"))
        self._main_thread = threading.get_ident()
        self._keys = [f"protoformer/beat/{number}" for number in range(world_size())]
        self._post(self._beat())  # at once: a rank that hangs later than this is noticed
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True, name="hung-ranks")
        self._thread.start()

    def close(self) -> None:
        """End the thread: it must not use the group when that is destroyed."""
        self._closed.set()
        self._thread.join()

    def _watch(self) -> None:
        posted: Beat | None = None
        seen: tuple[Beat, ...] = ()
        seen_at = time.monotonic()
        with contextlib.suppress(RuntimeError):  # the store or the group is gone: the job is ending
            while not self._closed.wait(self.poll_seconds):
                beat = self._beat()
                if beat != posted:
                    self._post(beat)
                    posted = beat
                beats = self._read()
                if beats != seen or len({each.entered for each in beats}) == 1:
                    seen, seen_at = beats, time.monotonic()
                elif time.monotonic() - seen_at > self.timeout:
                    self._end(beats)

    def _post(self, beat: Beat) -> None:
        self._store.set(self._keys[rank()], json.dumps(vars(beat)))

    def _beat(self) -> Beat:
        entered = self._backend._get_sequence_number_for_group()
        return Beat(entered, self.position(), socket.gethostname(), os.getpid())

    def _read(self) -> tuple[Beat, ...]:
        """The beats of all ranks; none as long as one has not posted yet."""
        if not self._store.check(self._keys):
            return ()
        return tuple(Beat(**json.loads(value)) for value in self._store.multi_get(self._keys))

    def _end(self, beats: tuple[Beat, ...]) -> None:
        most = max(beat.entered for beat in beats)
        late = {number: beat for number, beat in enumerate(beats) if beat.entered < most}
        first = min(number for number in range(len(beats)) if number not in late)
        if rank() in late:
            self._write_stack()
        if rank() != first:
            time.sleep(PATIENCE)
            os._exit(HungRankError.exit_code)
        time.sleep(2 * self.poll_seconds + 0.5)  # for their stacks
        where = {number: self._state(number, beat) for number, beat in late.items()}
        error = HungRankError(self._message(where))
        self.stop.end_with(error, then=lambda: _kill(late.values()))

    def _write_stack(self) -> None:
        with contextlib.suppress(OSError):
            self.folder.mkdir(exist_ok=True)
            with self._stack_file(rank()).open("w", encoding="utf-8") as file:
                faulthandler.dump_traceback(file, all_threads=True)

    def _stack_file(self, number: int) -> Path:
        return self.folder / f"rank-{number}.txt"

    def _state(self, number: int, beat: Beat) -> str:
        """Where a rank is that did not arrive."""
        file = self._stack_file(number)
        if file.exists():
            return f"{beat.position}, its stack is in {file}"
        if beat.host == socket.gethostname():
            state = _process_state(beat.pid)
            if state == "T":
                return f"{beat.position}, its process is stopped (SIGSTOP, or a debugger)"
            if state is None:
                return f"{beat.position}, its process is gone"
        return f"{beat.position}, no stack: its Python does not run"

    def _message(self, where: Mapping[int, str]) -> str:
        missing = "; ".join(f"rank {number} did not arrive ({state})" for number, state in where.items())
        waiting = described(sys._current_frames().get(self._main_thread))
        return (
            f"{missing}. The others have waited for {self.timeout:g} s (hardware.timeout) {self.position()}, {waiting}. "
            "The same command continues the run from its last checkpoint"
        )


def described(frame: FrameType | None) -> str:
    """What a stack waits in: its innermost function with a public name, and the innermost line of protoformer."""
    called = ""
    while frame is not None:
        name, path = frame.f_code.co_name, Path(frame.f_code.co_filename)
        if not called and not name.startswith("_") and name not in WRAPPERS:
            called = name
        if path.is_relative_to(PACKAGE):
            return f"in {called or name} ({path.relative_to(PACKAGE)}, line {frame.f_lineno})"
        frame = frame.f_back
    return f"in {called or 'an unknown function'}"


def _process_state(pid: int) -> str | None:
    """The letter of Linux's process states, None for a process that is gone; "" where the system does not tell."""
    if not Path("/proc/self/stat").exists():
        return ""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    return None


def _kill(beats: Any) -> None:
    """End hung ranks of this machine, which might not obey a signal that can be caught."""
    for beat in beats:
        if beat.host == socket.gethostname():
            with contextlib.suppress(OSError):
                os.kill(beat.pid, signal.SIGKILL)
