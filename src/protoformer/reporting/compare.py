"""Significance of the difference between two groups of runs, for every metric that the examples' predictions give.

Reads what the runs recorded of each example; no model is evaluated. The runs of a group differ in their seeds.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from protoformer.errors import UserError
from protoformer.reporting import example_metrics
from protoformer.reporting.example_metrics import Row
from protoformer.reporting.tables import print_table
from protoformer.runs import reader
from protoformer.runs.reader import Record
from protoformer.significance import intervals, power, randomization
from protoformer.significance.intervals import Clusters, Interval, Over
from protoformer.significance.metrics import Metric, SumMetric, value

COMPARABLE = (
    "comparable are runs whose predictions have known labels, and language models; protoformer report lists the scores of any "
    "runs side by side"
)
HELD_AGAINST = 0.005  # the difference whose cost is told: half a point
LOWER_IS_BETTER = ("perplexity",)


@dataclass(frozen=True)
class Comparison:
    """One metric of one task's split: the value of each run, the interval of the difference of means, and what p becomes where
    several tasks are compared at once. `randomized_p` is that of approximate randomisation, None where it is not defined."""

    task: str
    split: str
    metric: str
    examples: int
    clusters: int
    ours: list[float]
    theirs: list[float]
    over: Over
    interval: Interval
    randomized_p: float | None
    examples_needed: int
    seeds_needed: float | None
    corrected_p: float = 1.0

    @property
    def verdict(self) -> str:
        if self.corrected_p >= 0.05:
            return "not shown"
        return "better" if (self.interval.difference > 0) != (self.metric in LOWER_IS_BETTER) else "worse"


@dataclass(frozen=True)
class Options:
    """`over` None: other examples and other seeds where each side has two runs at least, else other examples."""

    over: Over | None = None
    resamples: int = 10_000
    clusters: str | None = None


def main(ours: Sequence[str], theirs: Sequence[str], options: Options) -> None:
    """Print the comparison, with metrics times 100 as in papers."""
    comparisons = compare([Path(run) for run in ours], [Path(run) for run in theirs], options)
    tasks = len({each.task for each in comparisons})
    rows = [
        (
            *([each.task] if tasks > 1 else []),
            each.split,
            each.metric,
            f"{each.examples:,}",
            _mean(each, each.ours),
            _mean(each, each.theirs),
            f"{_shown(each, each.interval.difference):+.2f}",
            f"{_shown(each, each.interval.low):+.2f} to {_shown(each, each.interval.high):+.2f}",
            _p(each.interval.p),
            "-" if each.randomized_p is None else _p(each.randomized_p),
            *([_p(each.corrected_p)] if tasks > 1 else []),
            each.verdict,
        )
        for each in comparisons
    ]
    columns = ["split", "metric", "examples", "these runs", "with", "difference", "95 % interval", "p", "randomised p"]
    print_table((*(["task"] if tasks > 1 else []), *columns, *(["Holm's p"] if tasks > 1 else []), ""), rows)
    for line in _notes(comparisons, options, tasks):
        print(line)


def compare(ours: Sequence[Path], theirs: Sequence[Path], options: Options | None = None) -> list[Comparison]:
    """Compare two groups of runs, task by task, on each split with predictions of all runs and known labels.

    Raises UserError for runs of tasks that one side lacks, unfinished runs, and different examples.
    """
    options = options or Options()
    if options.resamples < 1:
        raise UserError(f"--resamples {options.resamples}: at least one")
    if both := sorted({str(run) for run in ours if run.resolve() in {other.resolve() for other in theirs}}):
        raise UserError(f"{both[0]} is on both sides")
    sides = [[reader.read(run) for run in side] for side in (ours, theirs)]
    for record in (record for side in sides for record in side):
        if record.result is None:
            raise UserError(f"{record.folder} is not finished: the same command continues it")
    tasks = [list(dict.fromkeys(record.task for record in side)) for side in sides]
    if set(tasks[0]) != set(tasks[1]):
        missing = sorted(set(tasks[0]) ^ set(tasks[1]))
        raise UserError(f"runs of different tasks cannot be compared: {', '.join(missing)} is on one side alone")
    comparisons = [
        each
        for task in tasks[0]
        for each in _of_task(task, *([record for record in side if record.task == task] for side in sides), options)
    ]
    return list(_corrected(comparisons))


def _of_task(task: str, ours: Sequence[Record], theirs: Sequence[Record], options: Options) -> list[Comparison]:
    everyone = [*ours, *theirs]
    comparisons = []
    for split in _splits(everyone[0]):
        rows, scores = zip(*(_examples(record, split) for record in everyone), strict=True)
        if any(row["label"] is None for row in rows[0]) and scores[0] is None:
            continue  # hidden labels
        for record, of_run, scored in zip(everyone, rows, scores, strict=True):
            if _identity(of_run, scored) != _identity(rows[0], scores[0]):
                raise UserError(f"{record.folder} and {everyone[0].folder} did not predict the same rows of {split}")
        clusters = example_metrics.clusters(scores[0], rows[0], options.clusters)
        found = [
            example_metrics.example_metrics(record, split, of_run, scored)
            for record, of_run, scored in zip(everyone, rows, scores, strict=True)
        ]
        for name in found[0]:
            if all(name in each for each in found):
                runs = [each[name] for each in found]
                sides = runs[: len(ours)], runs[len(ours) :]
                comparisons.append(_comparison(task, split, name, *sides, clusters, options))
    if not comparisons:
        raise UserError(f"{task}: no metric of its runs can be computed from their examples; {COMPARABLE}")
    return comparisons


def _comparison(
    task: str,
    split: str,
    name: str,
    ours: Sequence[Metric],
    theirs: Sequence[Metric],
    clusters: Clusters | None,
    options: Options,
) -> Comparison:
    several = min(len(ours), len(theirs)) > 1
    over: Over = options.over or ("both" if several else "examples")
    if over != "examples" and not several:
        raise UserError(f"--over {over}: takes two runs on each side at least; give more, or --over examples")
    if over == "examples":
        interval = intervals.over_examples(ours, theirs, clusters, resamples=options.resamples)
    elif over == "seeds":
        interval = intervals.over_seeds(ours, theirs)
    else:
        interval = intervals.over_both(ours, theirs, clusters)
    randomized = None
    if over == "seeds":
        randomized = randomization.over_seeds(ours, theirs, resamples=options.resamples)
    elif over == "examples" and len(ours) == len(theirs) and isinstance(ours[0], SumMetric):
        pairs = [[run for run in side if isinstance(run, SumMetric)] for side in (ours, theirs)]
        randomized = randomization.over_examples(*pairs, clusters, resamples=min(options.resamples, 2_000))
    units = ours[0].n_examples if clusters is None else len(np.unique(clusters))
    of_examples = interval if over == "examples" else intervals.over_examples(ours, theirs, clusters, resamples=1_000)
    return Comparison(
        task, split, name, ours[0].n_examples, units,
        [value(run) for run in ours], [value(run) for run in theirs],
        over, interval, randomized,
        power.examples_needed(of_examples.standard_error**2, ours[0].n_examples, HELD_AGAINST),
        power.seeds_needed(intervals.variance(ours, theirs, clusters), (len(ours), len(theirs)), HELD_AGAINST) if several else None,
    )  # fmt: skip


def _corrected(comparisons: Sequence[Comparison]) -> Iterator[Comparison]:
    """With Holm's correction over tasks, metric by metric of the same place in a task's list; alone as they are."""
    tasks = {each.task for each in comparisons}
    p = [each.interval.p for each in comparisons]
    corrected = power.holm(p) if len(tasks) > 1 else p
    for each, number in zip(comparisons, corrected, strict=True):
        yield replace(each, corrected_p=number)


def _splits(record: Record) -> list[str]:
    folders = (record.folder / "predictions", record.folder / "example_scores")
    return sorted({file.stem for folder in folders for file in folder.glob("*.jsonl")})


def _examples(record: Record, split: str) -> tuple[list[Row], list[Row] | None]:
    """Predictions of a split, each with its label or None, and the recorded scores of each example."""
    file = record.folder / "predictions" / f"{split}.jsonl"
    scores = reader.read_example_scores(record.folder, split)
    if not file.exists() and scores is None:
        raise UserError(f"{file} does not exist: this run did not predict that split")
    rows: list[Row] = [{"label": None, **row} for row in reader.read_predictions(file)] if file.exists() else []
    labelled = rows and all(row["label"] is not None for row in rows)
    if scores is None and labelled:
        scores = example_metrics.scores_of_predictions(rows) or None
    if scores is not None and labelled and [row["id"] for row in scores] != [row["id"] for row in rows]:
        raise UserError(
            f"{record.folder}: example_scores/{split}.jsonl does not have the rows of predictions/{split}.jsonl"
        )
    return rows, scores


def _identity(rows: Sequence[Row], scores: Sequence[Row] | None) -> list[object]:
    """What two runs must have in common: ids, and labels where they are known; of a language model the tokens of each block."""
    of_rows = [(row["id"], row["label"]) for row in rows if row["label"] is not None]
    return [*of_rows, *((row["id"], row.get(example_metrics.TOKENS)) for row in scores or ())]


def _notes(comparisons: Sequence[Comparison], options: Options, tasks: int) -> Iterator[str]:
    """How the numbers were computed, and what a difference of half a point would take."""
    first = comparisons[0]
    yield {
        "examples": f"the interval is over other examples: paired bootstrap, {options.resamples:,} resamples"
        + (f" of whole clusters ({first.clusters:,})" if first.clusters < first.examples else ""),
        "seeds": "the interval is over other seeds, on these examples: Welch's t",
        "both": "the interval is over other examples and other seeds: two-way random model, t with Satterthwaite's degrees of freedom",
    }[first.over]
    for each in comparisons:
        if each.metric in LOWER_IS_BETTER:
            continue
        seeds = (
            "" if each.seeds_needed is None
            else ", and no number of seeds on these examples" if np.isinf(each.seeds_needed)
            else f", or {each.seeds_needed:,} runs on each side on these examples"
        )  # fmt: skip
        where = f"{each.task} {each.metric}" if tasks > 1 else f"{each.split} {each.metric}"
        yield f"{where}: a difference of half a point would be shown by {each.examples_needed:,} examples{seeds} (power 80 %)"


def _shown(comparison: Comparison, number: float) -> float:
    return number if comparison.metric in LOWER_IS_BETTER else 100 * number


def _mean(comparison: Comparison, values: Sequence[float]) -> str:
    shown = [_shown(comparison, each) for each in values]
    spread = f" ± {np.std(shown, ddof=1):.2f} (n = {len(shown)})" if len(shown) > 1 else ""
    return f"{np.mean(shown):.2f}{spread}"


def _p(p: float) -> str:
    return "<0.001" if p < 0.001 else f"{p:.3f}"
