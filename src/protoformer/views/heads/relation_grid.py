"""Figure of the heads of a model, layers by heads: the relation that each one finds farthest above the best fixed offset."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from protoformer.atomic import replace_atomically
from protoformer.views.curves import INK, QUIET

COLOURS = (
    "#8ec1ea", "#f4b183", "#9fd5a8", "#d6b0e3", "#f2a7a7", "#f0d77b", "#8fd3cf", "#c9c0a3", "#f3b8d6", "#b5c7e8",
)  # fmt: skip
OTHER, NONE = "#d5dae0", "#f4f5f7"


@dataclass(frozen=True)
class GridHead:
    """What a head finds best: relation and direction, and the fraction of arcs, in per cent. `relation` None: nothing above an
    offset."""

    relation: str | None
    arrow: str
    accuracy: float


def draw_grid(title: str, heads: Mapping[int, Sequence[GridHead]], order: Sequence[str], path: Path) -> Path:
    """Write the figure as SVG and return its path: the same, byte for byte, for the same heads. `heads` are those of each layer
    by its number; relations have colours in the `order` given, as far as there are colours."""
    import matplotlib  # slow: results without a figure do not need it
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    shown = {head.relation for row in heads.values() for head in row if head.relation is not None}
    colours = dict(zip([name for name in order if name in shown], COLOURS, strict=False))
    columns = max(map(len, heads.values()))
    style: Any = {"svg.hashsalt": "protoformer", "font.size": 8, "text.color": INK}
    with matplotlib.rc_context(style):
        # the legend takes two inches, and as much height as it has lines
        height = max(0.5 * len(heads), 0.2 * len(colours) + 0.6) + 1.0
        figure = Figure(figsize=(max(0.8 * columns, 3.0) + 2.0, height), layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.subplots()
        for row, of_layer in enumerate(heads.values()):
            for column, head in enumerate(of_layer):
                colour = NONE if head.relation is None else colours.get(head.relation, OTHER)
                axes.add_patch(Rectangle((column - 0.47, row - 0.45), 0.94, 0.9, color=colour, linewidth=0))
                if head.relation is not None:
                    below = f"{head.arrow} {head.accuracy:.0f}%"
                    axes.text(column, row - 0.16, head.relation, ha="center", va="center", fontsize=8)
                    axes.text(column, row + 0.2, below, ha="center", va="center", fontsize=6.5)
        axes.set_xlim(-0.5, columns - 0.5)
        axes.set_ylim(len(heads) - 0.5, -0.5)
        axes.set_xticks(range(columns), [str(number + 1) for number in range(columns)])
        axes.set_yticks(range(len(heads)), [str(number) for number in heads])
        axes.set_xlabel("head", color=QUIET)
        axes.set_ylabel("layer", color=QUIET)
        axes.set_title(title, loc="left", fontsize=9, color=INK)
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0, colors=QUIET)
        handles = [Rectangle((0, 0), 1, 1, color=colour, label=name) for name, colour in colours.items()]
        handles += [Rectangle((0, 0), 1, 1, color=OTHER, label="another")] * bool(shown - colours.keys())
        handles += [Rectangle((0, 0), 1, 1, color=NONE, label="none")]
        figure.legend(
            handles=handles, loc="outside right upper", frameon=False, fontsize=8, title="far above its offset:"
        )
        with replace_atomically(path) as tmp:
            figure.savefig(tmp, format="svg", metadata={"Date": None})
    return path
