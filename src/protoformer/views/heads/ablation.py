"""Figure of head ablations: what the score loses without each head, and without more and more of them (Michel et al. 2019,
arXiv 1905.10650, table 1 and figure 3)."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from protoformer.atomic import replace_atomically
from protoformer.views.curves import DEV, GRID, INK, LOSS, QUIET

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class HeadLike(Protocol):
    """A head of a part of a model, its layer and number from 1."""

    @property
    def part(self) -> str: ...
    @property
    def layer(self) -> int: ...
    @property
    def number(self) -> int: ...


class AblationLike(Protocol):
    """What the score loses without one head."""

    @property
    def head(self) -> HeadLike: ...
    @property
    def change(self) -> float: ...


class PruningLike(Protocol):
    """The score without a number of heads."""

    @property
    def removed(self) -> int: ...
    @property
    def score(self) -> float: ...


def draw(path: Path, ablations: Sequence[AblationLike], prunings: Sequence[PruningLike], whole: float) -> Path:
    """Write the figure as SVG and return its path: a panel for each part of the model, and the curve. The same numbers give the
    same file, byte for byte."""
    import matplotlib  # slow to import
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    parts = list(dict.fromkeys(each.head.part for each in ablations))
    style: Any = {"svg.hashsalt": "protoformer", "font.size": 9, "text.color": INK, "axes.labelcolor": INK}
    largest = max(max(abs(each.change) for each in ablations), 1e-9)
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(4.4 * (len(parts) + 1), 3.8), layout="constrained")
        FigureCanvasSVG(figure)
        *grids, curve = list(figure.subplots(1, len(parts) + 1, squeeze=False)[0])
        for axes, part in zip(grids, parts, strict=True):
            image = _draw_grid(axes, part, [each for each in ablations if each.head.part == part], largest)
        figure.colorbar(image, ax=grids, label="change of the score, points", shrink=0.8)
        _draw_curve(curve, prunings, len(ablations), whole)
        path.parent.mkdir(parents=True, exist_ok=True)
        with replace_atomically(path) as tmp:
            figure.savefig(tmp, format="svg", metadata={"Date": None})
    return path


def _draw_grid(axes: "Axes", part: str, ablations: Sequence[AblationLike], largest: float) -> Any:
    shape = [max(values) for values in zip(*((each.head.layer, each.head.number) for each in ablations), strict=True)]
    changes = np.full(shape, np.nan)
    for each in ablations:
        changes[each.head.layer - 1, each.head.number - 1] = 100 * each.change
    image = axes.imshow(changes, cmap="RdBu", vmin=-100 * largest, vmax=100 * largest, aspect="auto", origin="lower")
    axes.set_title(
        f"without one head{f' ({part})' if part else ''}", loc="left", fontsize=10, fontweight="bold", color=INK
    )
    axes.set_xlabel("head", color=QUIET)
    axes.set_ylabel("layer", color=QUIET)
    for axis, size in ((axes.yaxis, shape[0]), (axes.xaxis, shape[1])):
        step = max(1, size // 12)
        axis.set_ticks(range(0, size, step), [str(number) for number in range(1, size + 1, step)])
    axes.tick_params(colors=QUIET, length=0)
    axes.spines[:].set_visible(False)
    return image


def _draw_curve(axes: "Axes", prunings: Sequence[PruningLike], heads: int, whole: float) -> None:
    percentages = [100 * each.removed / heads for each in prunings]
    axes.axhline(100 * whole, color=DEV, linewidth=1, linestyle=(0, (4, 2)), label="all heads")
    axes.plot(
        percentages, [100 * each.score for each in prunings], color=LOSS, linewidth=1.6, marker="o", markersize=3.5
    )
    axes.set_title("without the least important", loc="left", fontsize=10, fontweight="bold", color=INK)
    axes.set_xlabel("heads left out, %", color=QUIET)
    axes.set_ylabel("score", color=QUIET)
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(colors=QUIET, length=0)
    axes.legend(frameon=False, fontsize=8, loc="lower left")
