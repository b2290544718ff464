"""Learning curves of a run: training loss and learning rate, and the dev scores, over optimizer steps.

Drawn from metrics.jsonl alone, as an SVG that is the same, byte for byte, for the same numbers.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from protoformer.atomic import replace_atomically
from protoformer.runs.metrics import Curve, read_curves

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK, QUIET, GRID = "#1f2933", "#6b7785", "#e4e8ec"
LOSS, RATE = "#1f5fa8", "#d98c1f"
DEV = "#c2452d"
SCORES = ("#1f5fa8", "#c2452d", "#2f8f5b", "#7a4fa3")


def draw(
    metrics_file: Path,
    score_metrics: Collection[str],
    headline: str | None = None,
    probe_metrics: Mapping[str, str] = MappingProxyType({}),
) -> Path:
    """Write `curves.svg` beside metrics.jsonl and return its path.

    `score_metrics` names the metrics that are drawn as dev scores, times 100, whatever their split: `accuracy` of
    `val/matched/accuracy`. `headline` names one that is drawn in their place and as it is, such as a perplexity.
    `probe_metrics` are the keys of the scores of other tasks by their names, drawn apart, times 100.
    """
    import matplotlib  # slow: `report` and a finished run import this file without drawing
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    curves = read_curves(metrics_file)
    path = metrics_file.with_name("curves.svg")
    style: Any = {"svg.hashsalt": "protoformer", "font.size": 9, "text.color": INK, "axes.labelcolor": INK}
    losses = _losses(curves)
    with matplotlib.rc_context(style):
        probed = {
            name: curve
            for name, key in probe_metrics.items()
            if (curve := _hundredfold(_finite(curves.get(key, ([], [])))))[0]
        }
        panels = len(losses) + 1 + bool(probed)
        figure = Figure(figsize=(4.5 * panels, 3.4), layout="constrained")
        FigureCanvasSVG(figure)
        *training, scores = axes_of = list(figure.subplots(1, panels))
        if probed:
            *training, scores, probes = axes_of
            _draw_scores(probes, "Probes", probed, ([], []))
        last = max((steps[-1] for steps, _ in curves.values()), default=0)
        for axes in axes_of:
            axes.set_xlim(0, max(1, last) * 1.03)
        for axes, (title, key, dev) in zip(training, losses, strict=True):
            _draw_loss(axes, title, _finite(curves.get(key, ([], []))), dev)
        _draw_learning_rate(training[0], _finite(curves.get("train/lr", ([], []))))
        if headline and (of_headline := {key: curves[key] for key in curves if _is_dev(key, f"/{headline}")}):
            _draw_scores(scores, f"Dev {headline}", of_headline, _finite(curves.get("val/score", ([], []))))
        else:
            _draw_scores(scores, "Dev scores", *_scores(curves, score_metrics))
        with replace_atomically(path) as tmp:
            figure.savefig(tmp, format="svg", metadata={"Date": None})
    return path


def _losses(curves: dict[str, Curve]) -> list[tuple[str, str, list[Curve]]]:
    """Pictures of losses: a title, the key of the training loss, and the dev losses that mean the same.

    A smoothed loss and a loss with an auxiliary term are not what a dev loss is: each stands in a picture of its own.
    """

    def dev(ending: str) -> list[Curve]:
        return [curve for key in curves if _is_dev(key, ending) and (curve := _finite(curves[key]))[0]]

    if "train/plain_loss" in curves:
        pictures = [("Loss", "train/plain_loss", dev("/loss"))]
        if curves["train/plain_loss"] != curves.get("train/loss"):
            pictures.append(("Smoothed loss (trained on)", "train/loss", dev("/smoothed_loss")))
        return pictures
    if "train/task_loss" in curves:
        return [
            ("Loss of the task", "train/task_loss", dev("/loss")),
            ("Loss of the language model", "train/lm_loss", []),
        ]
    return [("Loss", "train/loss", dev("/loss"))]


def _draw_loss(axes: "Axes", title: str, training: Curve, dev: Sequence[Curve]) -> None:
    _frame(axes, title)
    steps, losses = training
    if not steps:
        return _say(axes, "no training")
    window = max(1, len(losses) // 25)
    if window > 1:
        axes.plot(steps, losses, color=LOSS, alpha=0.25, linewidth=0.8)
    axes.plot(steps, _running_mean(losses, window), color=LOSS, linewidth=1.6, label="training", **_marks(steps))
    for number, curve in enumerate(dev):
        label = "dev" if number == 0 else None
        axes.plot(*curve, color=DEV, linewidth=1.2, marker="o", markersize=3.5, label=label)
    if dev:
        axes.legend(frameon=False, fontsize=8, loc="lower left", ncols=2)
    highest = max(max(values) for _, values in (training, *dev))
    if min(losses) > 0:
        axes.set_ylim(0, 1.1 * highest)
    return None


def _draw_learning_rate(axes: "Axes", rate: Curve) -> None:
    if len(rate[0]) > 1:
        right = axes.twinx()
        right.plot(*rate, color=RATE, linewidth=1, linestyle=(0, (4, 2)))
        right.set_ylabel("learning rate", color=RATE)
        right.set_ylim(0, 1.1 * max(rate[1]) or 1.0)
        right.ticklabel_format(axis="y", style="sci", scilimits=(0, 0))
        right.tick_params(colors=RATE, length=0)
        right.spines[:].set_visible(False)


def _scores(curves: dict[str, Curve], score_metrics: Collection[str]) -> tuple[dict[str, Curve], Curve]:
    """The curves of the dev scores, times 100, or of their mean where there are none; and the mean's."""
    mean = _hundredfold(_finite(curves.get("val/score", ([], []))))
    names = [key for key in curves if key.startswith("val/") and key.rpartition("/")[2] in score_metrics]
    drawn = {name: curve for name in names if (curve := _hundredfold(_finite(curves[name])))[0]}
    return drawn or ({"val/score": mean} if mean[0] else {}), mean


def _hundredfold(curve: Curve) -> Curve:
    return curve[0], [100 * value for value in curve[1]]


def _draw_scores(axes: "Axes", title: str, drawn: dict[str, Curve], best: Curve) -> None:
    _frame(axes, title)
    if not drawn:
        return _say(axes, "no scores on a dev set")
    for (name, (steps, values)), color in zip(drawn.items(), SCORES * len(drawn), strict=False):
        axes.plot(
            steps, values, label=name.removeprefix("val/"), color=color, linewidth=1.6, marker="o", markersize=3.5
        )
    if best[0]:
        _mark_best(axes, best)
    axes.margins(y=0.2)
    axes.legend(frameon=False, fontsize=8, loc="upper left", ncols=2)
    return None


def _is_dev(key: str, *endings: str) -> bool:
    return key.startswith("val/") and key.endswith(endings)


def _mark_best(axes: "Axes", scores: Curve) -> None:
    step = scores[0][scores[1].index(max(scores[1]))]
    axes.axvline(step, color=QUIET, linewidth=0.8, linestyle=(0, (2, 2)), zorder=0)
    left = 2 * step > axes.get_xlim()[1]
    axes.annotate(
        f"best: step {step:,}",
        (step, 0.03),
        xycoords=axes.get_xaxis_transform(),
        xytext=(-4 if left else 4, 0),
        textcoords="offset points",
        ha="right" if left else "left",
        color=QUIET,
        fontsize=8,
    )


def _frame(axes: "Axes", title: str) -> None:
    from matplotlib.ticker import MaxNLocator  # as in `draw`

    axes.set_title(title, loc="left", fontsize=10, fontweight="bold", color=INK, pad=12)
    axes.set_xlabel("optimizer steps", color=QUIET)
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(QUIET)
    axes.tick_params(colors=QUIET, length=0)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))


def _say(axes: "Axes", text: str) -> None:
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color=QUIET)
    axes.set_xticks([])
    axes.set_yticks([])


def _marks(steps: Sequence[int]) -> dict[str, Any]:
    """A few points are marked, so that a single one is seen."""
    return {"marker": "o", "markersize": 3.5} if len(steps) <= 12 else {}


def _finite(curve: Curve) -> Curve:
    kept = [(step, value) for step, value in zip(*curve, strict=True) if math.isfinite(value)]
    return [step for step, _ in kept], [value for _, value in kept]


def _running_mean(values: Sequence[float], window: int) -> list[float]:
    """The mean of each value and of those at most half a window to either side."""
    half = window // 2
    spans = [values[max(0, index - half) : index + half + 1] for index in range(len(values))]
    return [sum(span) / len(span) for span in spans]
