"""In-context scores over shots and over size: tables and panels of a figure."""

import math
from collections.abc import Sequence

from rich.console import Console

from protoformer.reporting.scaling.points import ScorePoint
from protoformer.reporting.tables import abbreviated, print_table
from protoformer.views.scaling import ScorePanel

HEAD = ("model", "without embeddings", "shots", "runs", "score", "spread over draws", "standard error")


def report(console: Console, points: Sequence[ScorePoint]) -> list[ScorePanel]:
    """Print a table for each task; its panels over shots, where these differ, and over size, where that differs."""
    panels = []
    for task in dict.fromkeys(point.task for point in points):
        of_task = [point for point in points if point.task == task]
        print_table(HEAD, _rows(of_task), f"{task}, {of_task[0].metric}", console=console, framed=True, right=HEAD[1:])
        panels += _panels(task, of_task)
    return panels


def _cells(points: Sequence[ScorePoint]) -> dict[tuple[int, int], list[ScorePoint]]:
    """The runs of each size and number of shots."""
    cells: dict[tuple[int, int], list[ScorePoint]] = {}
    for point in points:
        cells.setdefault((point.layers, point.shots), []).append(point)
    return cells


def _rows(points: Sequence[ScorePoint]) -> list[list[str]]:
    return [
        [
            runs[0].model,
            f"{layers:,}",
            str(shots),
            str(len(runs)),
            f"{_mean([run.score for run in runs]):.4f}",
            _shown([run.spread for run in runs]),
            _shown([run.stderr for run in runs]),
        ]
        for (layers, shots), runs in _cells(points).items()
    ]


def _panels(task: str, points: Sequence[ScorePoint]) -> list[ScorePanel]:
    cells, metric = _cells(points), points[0].metric
    if any(point.stderr for point in points):
        metric += " ± standard error over examples"
    over_shots: dict[str, list[tuple[float, float, float]]] = {}
    over_size: dict[str, list[tuple[float, float, float]]] = {}
    for (layers, shots), runs in sorted(cells.items()):
        # one kind of error bar for all shots: the spread over draws says nothing of the examples, and is not there at 0
        score, half = _mean([run.score for run in runs]), _mean([run.stderr or 0.0 for run in runs])
        over_shots.setdefault(f"N = {abbreviated(layers)}", []).append((shots, score, half))
        over_size.setdefault(f"{shots}-shot", []).append((layers, score, half))
    panels = []
    if len(over_size) > 1:
        panels.append(ScorePanel(f"{task} over shots", "shots", metric, over_shots))
    if len(over_shots) > 1:
        panels.append(ScorePanel(f"{task} over size", "parameters without embeddings", metric, over_size, log=True))
    return panels or [ScorePanel(task, "shots", metric, over_shots)]


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _shown(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    return f"{_mean(known):.4f}" if known else "-"
