"""One figure: time over n and over d, memory over n, each with its fitted exponent; and the crossings over d."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from protoformer.atomic import replace_atomically
from protoformer.complexity.kinds import KINDS
from protoformer.complexity.table import Found

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK, QUIET, GRID = "#1f2933", "#6b7785", "#e4e8ec"
COLOURS = ("#1f5fa8", "#c2452d", "#2f8f5b", "#7a4fa3", "#d98c1f", "#3aa6b9")
MARKS = ("o", "s", "^", "v", "D", "P")
WAYS = (
    ("formula", "paper's formula: n = d", QUIET, "--"),
    ("flops", "counted FLOPs", COLOURS[0], "-"),
    ("flops_without_projections", "counted, no projections", COLOURS[4], ":"),
    ("seconds", "measured time", COLOURS[1], "-"),
)


def draw(found: Found, path: Path) -> None:
    """Write the figure as SVG; the same numbers give the same file."""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    style: Any = {"svg.hashsalt": "protoformer", "font.size": 9, "text.color": INK, "axes.labelcolor": INK}
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(11, 8.4), layout="constrained")
        FigureCanvasSVG(figure)
        (time_n, time_d), (memory, crossed) = figure.subplots(2, 2)
        n, d = found.grid.n, found.grid.d
        _curves(time_n, found, "seconds", over_n=True, unit=1e3)
        _frame(time_n, f"Time of a sequence, forward and backward (d = {d[-1]})", "n", "ms", n)
        _curves(time_d, found, "seconds", over_n=False, unit=1e3)
        _frame(time_d, f"The same over d (n = {n[-1]})", "d", "ms", d)
        _curves(memory, found, "kept", over_n=True, unit=2**-20)
        _frame(memory, f"Kept for backward (d = {d[-1]})", "n", "MiB", n)
        _crossings(crossed, found)
        _frame(crossed, "From which n on self-attention costs more than an LSTM", "d", "n", d)
        with replace_atomically(path) as tmp:
            figure.savefig(tmp, format="svg", metadata={"Date": None})


def _curves(axes: "Axes", found: Found, what: str, *, over_n: bool, unit: float) -> None:
    n, d = found.grid.n, found.grid.d
    for kind, colour, mark in zip(KINDS, COLOURS, MARKS, strict=True):
        sizes = n if over_n else d
        costs = found.over_n(kind, d[-1], what) if over_n else found.over_d(kind, n[-1], what)
        power = found.exponents(kind, what)[0 if over_n else 1]
        label = f"{kind.name}: {'n' if over_n else 'd'}$^{{{power:.2f}}}$"
        axes.plot(
            sizes, [cost * unit for cost in costs], color=colour, marker=mark, markersize=4, linewidth=1.4, label=label
        )


def _crossings(axes: "Axes", found: Found) -> None:
    known = found.crossings()
    for name, label, colour, line in WAYS:
        points = [(one.d, value) for one in known if (value := getattr(one, name)) is not None]
        if points:
            x, y = zip(*points, strict=True)
            wide = 4.0 if name == "flops" else 1.6
            axes.plot(
                x, y, color=colour, linestyle=line, marker="o", markersize=4, linewidth=wide, label=label,
                alpha=0.45 if name == "flops" else 1.0,
            )  # fmt: skip


def _frame(axes: "Axes", title: str, x: str, y: str, ticks: Any) -> None:
    axes.set_xscale("log", base=2)
    axes.set_yscale("log", base=2 if y == "n" else 10)
    axes.set_xticks(list(ticks), [str(tick) for tick in ticks])
    if y == "n":
        axes.yaxis.set_major_formatter("{x:.0f}")
    if y != "n":  # room for the legend
        bottom, top = axes.get_ylim()
        axes.set_ylim(bottom, top * 8)
    axes.set_title(title, fontsize=10, loc="left")
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(QUIET)
    axes.tick_params(colors=QUIET, which="both")
    axes.legend(frameon=False, fontsize=8, loc="upper left")
