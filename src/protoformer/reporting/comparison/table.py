"""The printed comparison: a row for each metric, and how its numbers came to be."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from protoformer.reporting.comparison.compare import Comparison, Options, compare
from protoformer.reporting.comparison.example_metrics import BITS
from protoformer.reporting.tables import counted, make_console, print_line, print_table

COLUMNS = ("difference", "95 % interval", "p", "randomised p")


def main(ours: Sequence[str], theirs: Sequence[str], options: Options) -> None:
    """Print the comparison, with metrics times 100 as in papers."""
    comparisons = compare([Path(run) for run in ours], [Path(run) for run in theirs], options)
    files = [[path for path in side if Path(path).is_file()] for side in (ours, theirs)]
    several = len({each.task for each in comparisons}) > 1
    rows = [
        (
            *([each.task] if several else []),
            each.split,
            each.metric,
            f"{each.examples:,}",
            _mean(each, each.ours),
            _mean(each, each.theirs),
            _signed(each, each.interval.difference),
            f"{_signed(each, each.interval.low)} to {_signed(each, each.interval.high)}",
            _p(each.interval.p),
            "-" if each.randomized_p is None else _p(each.randomized_p),
            *([_p(each.corrected_p)] if several else []),
            each.verdict,
        )
        for each in comparisons
    ]
    console = make_console()
    titles = [
        f"{title} files" if len(paths) == len(side) else whole
        for title, whole, paths, side in zip(
            ("these", "with"), ("these runs", "with"), files, (ours, theirs), strict=True
        )
    ]
    columns: tuple[str, ...] = ("split", "metric", "examples", *titles, *COLUMNS)
    columns = ("task", *columns, "Holm's p", "") if several else (*columns, "")
    print_table(columns, rows, console=console, whole=("verdict",))
    for line in (*_of_files(files, comparisons), *_notes(comparisons, options)):
        print_line(console, line)


def _of_files(files: Sequence[Sequence[str]], comparisons: Sequence[Comparison]) -> Iterator[str]:
    """Which side was read from files, and which metrics of the runs those do not give."""
    for title, paths in zip(("these", "with"), files, strict=True):
        if paths:
            names = paths[0] if len(paths) == 1 else f"{paths[0]} to {paths[-1]}"
            yield (
                f"{title}: {counted(len(paths), 'file')} of another system's predictions ({names}); labels and settings of "
                "metrics are the runs'"
            )
    for split, left_out in dict.fromkeys((each.split, each.left_out) for each in comparisons if each.left_out):
        yield f"{split}: not compared, as files of predictions do not give them: {', '.join(left_out)}"


def _notes(comparisons: Sequence[Comparison], options: Options) -> Iterator[str]:
    """How the numbers were computed, and what a difference of half a point would take."""
    over = comparisons[0].over
    yield {
        "examples": f"interval: over other examples of the same runs; paired bootstrap, {options.resamples:,} resamples. "
        "randomised p: outputs exchanged example by example",
        "seeds": "interval: over other seeds on the same examples; Welch's t. randomised p: runs dealt anew to the two sides",
        "both": "interval: over other examples and other seeds; variances of both, t with Satterthwaite's degrees of freedom. "
        "randomised p: the larger of outputs exchanged and of runs dealt anew, each of which holds the other fixed",
    }[over]
    tasks = list(dict.fromkeys(each.task for each in comparisons))
    for each in comparisons:
        if over != "seeds" and each.clusters < each.examples:
            where = each.split if len(tasks) == 1 else f"{each.task} {each.split}"
            line = (
                f"{where}: {each.examples:,} examples of {counted(each.clusters, 'passage')} (or what else they share), "
                "which are drawn whole"
            )
            if each.metric == next(a.metric for a in comparisons if (a.task, a.split) == (each.task, each.split)):
                yield line
    if len(tasks) > 1:
        yield f"Holm's p: corrected for the {len(comparisons)} rows, and what better, worse and not shown go by"
    for each in comparisons:
        yield from _lines_of(each, f"{each.task} {each.metric}" if len(tasks) > 1 else f"{each.split} {each.metric}")


def _lines_of(each: Comparison, where: str) -> Iterator[str]:
    if each.hierarchical is not None:
        low, high = (_signed(each, bound) for bound in (each.hierarchical.low, each.hierarchical.high))
        yield f"{where}: {low} to {high} by a hierarchical bootstrap of runs and examples, too narrow for few runs"
    if each.lower_is_better:
        return
    if each.examples_needed is None:
        yield f"{where}: both sides have the same score on every example"
        return
    seeds = (
        "" if each.seeds_needed is None
        else "; on these examples no number of runs is enough" if np.isinf(each.seeds_needed)
        else f"; on these examples {each.seeds_needed:,} runs on each side"
    )  # fmt: skip
    yield f"{where}: to show half a point takes {each.examples_needed:,} examples, for these runs{seeds} (power 80 %)"


def _shown(comparison: Comparison, number: float) -> float:
    return number if comparison.lower_is_better else 100 * number


def _digits(comparison: Comparison) -> int:
    return 4 if comparison.metric.startswith(BITS) else 2


def _signed(comparison: Comparison, number: float) -> str:
    return f"{_shown(comparison, number):+.{_digits(comparison)}f}"


def _mean(comparison: Comparison, values: Sequence[float]) -> str:
    shown = [_shown(comparison, each) for each in values]
    digits = _digits(comparison)
    spread = f" ± {np.std(shown, ddof=1):.{digits}f} (n = {len(shown)})" if len(shown) > 1 else ""
    return f"{np.mean(shown):.{digits}f}{spread}"


def _p(p: float) -> str:
    return "<0.001" if p < 0.001 else f"{p:.3f}"
