"""Figure of a sweep: the score of each trial in their order with the best so far, and over each parameter that varies."""

import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

from protoformer.atomic import replace_atomically
from protoformer.views.curves import DEV, GRID, INK, LOSS, QUIET, RATE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FORMATS = (".svg", ".png")
COLUMNS = 3
MAX_PANELS = 12
LONGEST_LABEL = 14
LOGARITHMIC_FROM = 50  # ratio of the largest to the smallest number of a parameter that is drawn on a logarithmic axis
Points = Sequence[tuple[int, Mapping[str, object], float, bool]]  # number, parameters, score, whether it was pruned


def draw_sweep(objective: str, maximize: bool, points: Points, path: Path) -> None:
    """Write the figure as SVG or PNG, by the ending of `path`. The same points give the same SVG, byte for byte."""
    import matplotlib  # slow: a report without a figure does not need it
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    keys = list(dict.fromkeys(key for _, params, _, _ in points for key in params))
    variable = [key for key in keys if len({str(params.get(key)) for _, params, _, _ in points}) > 1]
    panels: list[str | None] = [None, *variable[: MAX_PANELS - 1]]
    columns, rows = min(COLUMNS, len(panels)), -(-len(panels) // COLUMNS)
    style: Any = {"svg.hashsalt": "protoformer", "font.size": 9, "text.color": INK, "axes.labelcolor": INK}
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(4.2 * columns, 3.2 * rows), layout="constrained", dpi=150)
        (FigureCanvasSVG if path.suffix == ".svg" else FigureCanvasAgg)(figure)
        all_axes = list(figure.subplots(rows, columns, squeeze=False).flat)
        for axes, key in zip(all_axes, panels, strict=False):
            if key is None:
                _draw_history(axes, maximize, points)
            else:
                _draw_slice(axes, key, points)
            _frame(axes, objective if axes.get_subplotspec().is_first_col() else "")
        for axes in all_axes[len(panels) :]:
            axes.set_visible(False)
        with replace_atomically(path) as tmp:
            metadata: Any = {"Date": None} if path.suffix == ".svg" else {"Software": None}
            figure.savefig(tmp, format=path.suffix[1:], metadata=metadata)


def _draw_history(axes: "Axes", maximize: bool, points: Points) -> None:
    finished = [(number, score) for number, _, score, pruned in points if not pruned]
    pruned_ones = [(number, score) for number, _, score, pruned in points if pruned]
    numbers, scores = zip(*finished, strict=True)
    best = list(accumulate(scores, max if maximize else min))
    axes.step(numbers, best, where="post", color=DEV, linewidth=1.4, label="best so far")
    axes.plot(numbers, scores, color=LOSS, marker="o", markersize=4.5, linestyle="none", label="finished")
    if pruned_ones:
        axes.plot(
            *zip(*pruned_ones, strict=True), color=QUIET, marker="x", markersize=5, linestyle="none", label="pruned"
        )
    axes.set_title("history", loc="left", fontsize=10, fontweight="bold", color=INK)
    axes.set_xlabel("trial", color=QUIET)
    axes.locator_params(axis="x", integer=True)
    axes.legend(frameon=False, fontsize=8, loc="best")


def _draw_slice(axes: "Axes", key: str, points: Points) -> None:
    """Scores over the values of one parameter: on an axis of numbers, or side by side."""
    numbers = [_number(params.get(key)) for _, params, _, _ in points]
    values = [str(params.get(key, "")) for _, params, _, _ in points]
    names = list(dict.fromkeys(values))
    if all(number is not None for number in numbers):
        x = [number for number in numbers if number is not None]
        if min(x) > 0 and max(x) / min(x) >= LOGARITHMIC_FROM:
            axes.set_xscale("log")
        elif len(set(x)) <= 6:
            axes.set_xticks(sorted(set(x)), [f"{each:g}" for each in sorted(set(x))])
            axes.margins(x=0.15)
    else:
        names = sorted(names)
        x = [float(names.index(value)) for value in values]
        labels = [name if len(name) <= LONGEST_LABEL else f"{name[: LONGEST_LABEL - 3]}..." for name in names]
        many = len(names) > 3
        axes.set_xticks(range(len(names)), labels, rotation=30 if many else 0, ha="right" if many else "center")
        axes.set_xlim(-0.5, len(names) - 0.5)
    finished: dict[float, list[float]] = defaultdict(list)
    for each, (_, _, score, is_pruned) in zip(x, points, strict=True):
        colour, marker = (QUIET, "x") if is_pruned else (LOSS, "o")
        axes.plot([each], [score], color=colour, marker=marker, markersize=4.5, linestyle="none", alpha=0.75)
        if not is_pruned:
            finished[each].append(score)
    if any(len(scores) > 1 for scores in finished.values()):
        means = [statistics.fmean(scores) for scores in finished.values()]
        axes.plot(list(finished), means, color=RATE, marker="_", markersize=16, linestyle="none")
    axes.set_title(key, loc="left", fontsize=10, fontweight="bold", color=INK)


def _number(value: object) -> float | None:
    try:
        return float(str(value))
    except ValueError:
        return None


def _frame(axes: "Axes", label: str) -> None:
    axes.set_ylabel(label, color=QUIET)
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(QUIET)
    axes.tick_params(colors=QUIET, which="both", length=0)
