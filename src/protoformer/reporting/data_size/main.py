"""`protoformer report data-size`: a table for each task on the terminal, a CSV file and a figure."""

import csv as csv_files
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from protoformer.atomic import replace_atomically
from protoformer.errors import UserError
from protoformer.reporting.data_size.curves import DataSizeCurve, Size, read_curves
from protoformer.reporting.paper_results import format_metric
from protoformer.reporting.tables import make_console, print_line, print_table
from protoformer.views.scaling import FORMATS, DataSizePanel, MeasuredSize, draw

INTERVAL = "95 % interval"
HEAD = ("task", "metric", "model", "recipe", "examples", "runs", "mean", "deviation", "low", "high", "seeds", "scores")


def main(
    folders: Sequence[str], *, metric: str | None = None, csv: str | None = None, figure: str | None = None
) -> None:
    """Print scores over the number of training examples, and write them; files go into the first folder where no other name is
    given.

    Raises UserError where no runs differ in it alone, and for a figure of another format.
    """
    if figure is not None and Path(figure).suffix not in FORMATS:
        raise UserError(f"--figure {figure}: the file must end in {' or '.join(FORMATS)}")
    curves, left_out = read_curves(folders, metric)
    console = make_console()
    panels = []
    for task in dict.fromkeys(curve.task for curve in curves):
        of_task = [curve for curve in curves if curve.task == task]
        for name in dict.fromkeys(curve.metric for curve in of_task):
            shown = [curve for curve in of_task if curve.metric == name]
            _print(console, task, name, shown)
            panels.append(_panel(task, name, shown))
    for line in left_out:
        print_line(console, f"Left out: {line}.")
    files = [Path(csv or Path(folders[0]) / "data_size.csv"), Path(figure or Path(folders[0]) / "data_size.svg")]
    _write_csv(files[0], curves)
    draw(panels, files[1])
    print_line(console, f"written: {', '.join(map(str, files))}")


def _print(console: Console, task: str, metric: str, curves: Sequence[DataSizeCurve]) -> None:
    head = ["model", "training examples", "runs", metric, INTERVAL]
    rows = [[curve.label, *_cells(curve, size)] for curve in curves for size in curve.sizes]
    if any(row[-1] for row in rows):
        head.append("")
    else:
        rows = [row[:-1] for row in rows]
    print_table(
        head, rows, f"{task}: dev {metric} over training examples", console=console, framed=True, right=head[1:5]
    )


def _cells(curve: DataSizeCurve, size: Size) -> list[str]:
    mean, deviation = (format_metric(value, curve.percent) for value in (size.mean, size.deviation))
    interval = "-" if size.interval is None else " to ".join(format_metric(end, curve.percent) for end in size.interval)
    return [
        f"{size.examples:,}",
        str(len(size.runs)),
        mean if size.deviation is None else f"{mean} ± {deviation}",
        interval,
        f"{size.degenerate} of {len(size.runs)} degenerate" if size.degenerate else "",
    ]


def _panel(task: str, metric: str, curves: Sequence[DataSizeCurve]) -> DataSizePanel:
    percent = all(curve.percent for curve in curves)
    times = 100 if percent else 1
    measured = {
        curve.label: [
            MeasuredSize(
                size.examples,
                times * size.mean,
                [times * score for score in size.scores],
                None if size.interval is None else (times * size.interval[0], times * size.interval[1]),
            )
            for size in curve.sizes
        ]
        for curve in curves
    }
    return DataSizePanel(task, f"dev {metric}{' (x 100)' if percent else ''}, mean and {INTERVAL}", measured)


def _write_csv(file: Path, curves: Sequence[DataSizeCurve]) -> None:
    """A row for each number of training examples of a curve; seeds and scores of its runs are separated by spaces."""
    with replace_atomically(file) as tmp, tmp.open("w", encoding="utf-8", newline="") as lines:
        writer = csv_files.writer(lines, lineterminator="\n")
        writer.writerow(HEAD)
        for curve in curves:
            for size in curve.sizes:
                numbers = (size.mean, size.deviation, *(size.interval or (None, None)))
                writer.writerow(
                    [
                        curve.task, curve.metric, curve.model, curve.recipe, size.examples, len(size.runs),
                        *("" if number is None else f"{number:.6f}" for number in numbers),
                        " ".join(map(str, size.seeds)), " ".join(f"{score:.6f}" for score in size.scores),
                    ]
                )  # fmt: skip
