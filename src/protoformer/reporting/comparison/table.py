"""The printed comparison: a row for each metric, and how its numbers came to be."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from protoformer.reporting.comparison.compare import Comparison, Options, compare
from protoformer.reporting.tables import counted, make_console, p_text, print_line, print_table
from protoformer.significance.intervals import DifferenceInterval

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
            _interval(each, each.interval),
            p_text(each.interval.p),
            "-" if each.randomized_p is None else p_text(each.randomized_p),
            *([p_text(each.corrected_p)] if several else []),
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
    """Which side was read from files; what was not compared; how checkpoints were chosen."""
    for title, paths in zip(("these", "with"), files, strict=True):
        if paths:
            names = paths[0] if len(paths) == 1 else f"{paths[0]} to {paths[-1]}"
            yield (
                f"{title}: {counted(len(paths), 'file')} of another system's predictions ({names}); labels and settings of "
                "metrics are the runs'"
            )
    several = len({each.task for each in comparisons}) > 1
    lines = [f"{each.task}: {note}" if several else note for each in comparisons for note in each.notes]
    yield from dict.fromkeys(lines)


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
    if over != "seeds" and any(len(each.ours) != len(each.theirs) for each in comparisons):
        yield "randomised p: outputs are not exchanged between sides of different numbers of runs, which have no pairs"
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
    yield (
        f"better, worse: Holm's p, corrected for the {counted(len(comparisons), 'row')} of {len(tasks)} tasks, is below 0.05"
        if len(tasks) > 1
        else "better, worse: p is below 0.05" + (", not corrected for several rows" if len(comparisons) > 1 else "")
    )
    for each in comparisons:
        yield from _lines_of(each, f"{each.task} {each.split}" if len(tasks) > 1 else each.split)


def _lines_of(each: Comparison, split: str) -> Iterator[str]:
    where = f"{split} {each.metric}"
    if each.of_examples and each.of_seeds and each.hierarchical:
        yield (
            f"{where}: {_interval(each, each.of_examples)} over other examples alone (p {p_text(each.of_examples.p)}), "
            f"{_interval(each, each.of_seeds)} over other seeds alone (p {p_text(each.of_seeds.p)}), "
            f"{_interval(each, each.hierarchical)} by a bootstrap of both, a rough check"
        )
    if each.is_percent:
        yield f"{where}: {_needed(each)}"


def _needed(each: Comparison) -> str:
    """What shows half a point."""
    if each.over != "seeds" and each.examples_needed is None:
        equal = each.interval.difference == 0
        return (
            "both sides have the same score on every example"
            if equal
            else "the difference is the same on every example"
        )
    parts = [] if each.examples_needed is None else [f"{each.examples_needed:,} examples with these runs"]
    if each.seeds_needed is not None:
        parts.append(f"{each.seeds_needed:,} runs on each side on these examples")
    if each.seeds_needed_on_others is not None:
        parts.append(
            f"on {each.examples:,} other examples "
            + (
                "no number of runs"
                if np.isinf(each.seeds_needed_on_others)
                else f"{each.seeds_needed_on_others:,} runs"
            )
        )
    if not parts:
        return "one example alone: what shows half a point is not known"
    return f"half a point is shown, with a power of 80 %, by {', or '.join(parts)}"


def _interval(each: Comparison, interval: DifferenceInterval) -> str:
    if np.isnan(interval.low):
        return "not known: no spread"
    return f"{_signed(each, interval.low)} to {_signed(each, interval.high)}"


def _shown(comparison: Comparison, number: float) -> float:
    return 100 * number if comparison.is_percent else number


def _digits(comparison: Comparison) -> int:
    return 2 if comparison.is_percent or comparison.metric.endswith("perplexity") else 4


def _signed(comparison: Comparison, number: float) -> str:
    text = f"{_shown(comparison, number):+.{_digits(comparison)}f}"
    return text if text.strip("+-0.") else text.replace("-", "+")  # no -0.00


def _mean(comparison: Comparison, values: Sequence[float]) -> str:
    shown = [_shown(comparison, each) for each in values]
    digits = _digits(comparison)
    spread = f" ± {np.std(shown, ddof=1):.{digits}f} (n = {len(shown)})" if len(shown) > 1 else ""
    return f"{np.mean(shown):.{digits}f}{spread}"
