"""Progress of work on many rows: a line that is drawn anew on a terminal, lines from time to time elsewhere."""

import sys
import time
from typing import TextIO

TERMINAL_INTERVAL = 0.5  # seconds between two drawings
PIPE_INTERVAL = 10.0  # seconds between two lines


def counted(number: int, noun: str) -> str:
    """`1 row`, `1,024 rows`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


class Progress:
    """Counts of rows, their speed and what is left, on standard error.

    `total` None: unknown. `already` rows were done by an earlier call, and count in no speed.
    """

    def __init__(
        self, noun: str, total: int | None = None, already: int = 0, stream: TextIO | None = None, about: bool = False
    ) -> None:
        self.noun, self.total, self.already, self.about = noun, total, already, about
        self.stream = stream or sys.stderr
        self.on_terminal = self.stream.isatty()
        self.start = self.last = time.monotonic()
        self.drawn = False

    def update(self, count: int) -> None:
        """`count` rows are done, those of earlier calls included."""
        now = time.monotonic()
        if now - self.last < (TERMINAL_INTERVAL if self.on_terminal else PIPE_INTERVAL):
            return
        self.last = now
        line = self._line(count, now - self.start)
        self.stream.write(f"\r{line:<79}" if self.on_terminal else f"{line}\n")
        self.stream.flush()
        self.drawn = self.on_terminal

    def close(self) -> None:
        """Clear the line of a terminal."""
        if self.drawn:
            self.stream.write(f"\r{'':<79}\r")
            self.stream.flush()
            self.drawn = False

    def summary(self, count: int) -> str:
        """Rows and speed of this call."""
        seconds = max(time.monotonic() - self.start, 1e-9)
        done = count - self.already
        return f"{counted(done, self.noun)} in {seconds:.1f} s ({done / seconds:.1f} a second)"

    def _line(self, count: int, seconds: float) -> str:
        speed = (count - self.already) / max(seconds, 1e-9)
        done = counted(count, self.noun)
        if self.total is None or count > self.total:
            return f"{done}, {speed:.1f} a second"
        left = (self.total - count) / speed if speed else 0.0
        of = f"{count:,} of {'about ' if self.about else ''}{counted(self.total, self.noun)}"
        return f"{of}, {speed:.1f} a second, {_duration(left)} left"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes / 60:.1f} h"
