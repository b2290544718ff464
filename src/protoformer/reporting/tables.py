"""Tables on a terminal and in markdown."""

import re
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console


PIPED_WIDTH = 160  # columns where no terminal says its width


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], title: str | None = None) -> None:
    """Print a table; without frames or colours in a pipe."""
    console = _console()
    console.print(_table(title, columns, rows, console))


def _console() -> "Console":
    from rich.console import Console

    return (
        Console(highlight=False) if sys.stdout.isatty() else Console(width=PIPED_WIDTH, highlight=False, no_color=True)
    )


def _table(title: str | None, columns: Sequence[str], rows: Iterable[Sequence[str]], console: "Console") -> Any:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    frame = box.SIMPLE_HEAD if console.is_terminal else None
    made = Table(title=title, title_justify="left", title_style="bold", box=frame, pad_edge=False)
    for column in columns:
        made.add_column(column, overflow="fold")
    for row in rows:
        made.add_row(*(Text(cell) for cell in row))
    return made


def duration(seconds: float) -> str:
    """Seconds as a person says them: 42 s, 3 min 5 s, 2 h 10 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def escape(text: object) -> str:
    """Text that Markdown shows as it is, also in a cell of a table."""
    one_line = " ".join(str(text).split())
    return re.sub(r"([\\`*_{}\[\]<>|#~&$])", r"\\\1", one_line)


def fenced(text: str, language: str = "") -> str:
    """Text as a block of code, behind a fence longer than any in it."""
    runs = [len(run) for run in re.findall(r"`+", text)]
    fence = "`" * max([3, *(run + 1 for run in runs)])
    return f"{fence}{language}\n{text}\n{fence}"
