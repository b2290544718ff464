"""Tables on a terminal and in Markdown, and the small pieces of text that reports share."""

import os
import re
import sys
from collections.abc import Collection, Iterable, Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

PIPED_WIDTH = 160  # columns where neither a terminal nor COLUMNS says the width
OTHER_WIDTH = 7  # at least, of the columns but the first in a table that does not fit otherwise
LONGEST_WORD = 12  # characters of a word that is never folded there


def make_console() -> Console:
    """The console of standard output. In a pipe it has no colours, and the width of COLUMNS, or else a wide one."""
    if sys.stdout.isatty():
        return Console(highlight=False)
    columns = os.environ.get("COLUMNS", "")
    width = int(columns) if columns.isdecimal() and int(columns) > 0 else PIPED_WIDTH
    return Console(width=width, highlight=False, no_color=True)


def print_table(
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    title: str | None = None,
    *,
    console: Console | None = None,
    framed: bool = False,
    right: Collection[str] = (),
    bold: Collection[str] = (),
    whole: Collection[str] = (),
    section_after: int | None = None,
) -> None:
    """Print a table. Cells are text as it is, never markup; long ones are folded.

    `framed` draws lines around it, in a pipe too. Where it is wider than the console a framed one has no padding, and its
    heads break after a slash; another has no line under its heads. `right`, `bold` and `whole` name columns that are
    right-aligned, bold, and never folded; a line is drawn after the first `section_after` rows.
    """
    console = console or make_console()
    lines = list(rows)
    words = {name: [*name.replace("/", "/ ").split(), *(" ".join(row[number] for row in lines).split())]
             for number, name in enumerate(columns)}  # fmt: skip
    widths = {name: max(OTHER_WIDTH, *(len(word) for word in ("", *of_column) if len(word) <= LONGEST_WORD))
              for name, of_column in words.items()}  # fmt: skip

    def table(narrow: bool) -> Table:
        plain = box.SIMPLE_HEAD if console.is_terminal and not narrow else None
        result = Table(
            padding=(0, 0) if narrow and framed else (0, 1),
            title=None if title is None else Text(title, style="italic" if framed else "bold"),
            title_justify="left",
            box=box.HEAVY_HEAD if framed else plain,
            pad_edge=framed,
        )
        for name in columns:
            head = name.replace("/", "/\n") if narrow and framed else name
            width = widths[name] if narrow and framed and name != columns[0] else None
            result.add_column(Text(head), justify="right" if name in right else "left",
                              style="bold" if name in bold else None, overflow="fold", max_width=width,
                              no_wrap=name in whole)  # fmt: skip
        for number, row in enumerate(lines, start=1):
            result.add_row(*map(Text, row), end_section=number == section_after)
        return result

    wide = table(narrow=False)
    fits = console.measure(wide, options=console.options.update(max_width=10_000)).maximum <= console.width
    console.print(wide if fits else table(narrow=True))


def print_line(console: Console, line: str) -> None:
    """Print a line as it is: no markup, no colours of its own, never broken (paths are to be copied)."""
    console.print(line, markup=False, highlight=False, soft_wrap=True)


def markdown_table(columns: Sequence[str], rows: Iterable[Sequence[object]], right: Collection[str] = ()) -> str:
    """A Markdown table; cells are escaped. `right` names columns that are right-aligned."""
    marks = ["---:" if name in right else "---" for name in columns]
    lines = [map(escape_markdown, columns), marks, *(map(escape_markdown, row) for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def format_duration(seconds: float) -> str:
    """Seconds as a person says them: 42 s, 3 min 5 s, 2 h 10 min, 59 days 3 h."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    if whole >= 2 * 86400:
        return f"{whole // 86400} days {whole % 86400 // 3600} h"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def counted(number: float, noun: str, plural: str | None = None) -> str:
    """`1 epoch`, `3 epochs`, `0.03 epochs`, `2 processes`."""
    if isinstance(number, int):
        text = f"{number:,}"
    else:
        text = f"{number:.1g}" if 0 < number < 0.01 else f"{number:,.2f}".rstrip("0").rstrip(".")
    return f"{text} {noun if text == '1' else plural or noun + 's'}"


def p_text(p: float) -> str:
    """A p-value in three digits; none is 0."""
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def abbreviated(number: int) -> str:
    """A count in three digits: 44,066, 22.7 M, 1.5 B."""
    for name, size, least in (("B", 1e9, 999.5e6), ("M", 1e6, 1e6)):  # 999.5 million are three digits of a billion
        if number >= least:
            return f"{number / size:.3g} {name}"
    return f"{number:,}"


def escape_markdown(text: object) -> str:
    """Text that Markdown shows as it is, also in a cell of a table."""
    one_line = " ".join(str(text).split())
    return re.sub(r"([\\`*_{}\[\]<>|#~&$])", r"\\\1", one_line)


def fenced(text: str, language: str = "") -> str:
    """Text as a block of code, behind a fence longer than any in it."""
    runs = [len(run) for run in re.findall(r"`+", text)]
    fence = "`" * max([3, *(run + 1 for run in runs)])
    return f"{fence}{language}\n{text}\n{fence}"
