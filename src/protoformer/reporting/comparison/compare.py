"""Significance of the difference between two groups of runs, for every metric that the examples' predictions give.

Reads what the runs recorded of each example; no model is evaluated. The runs of a group differ in their seeds. In place of a
run there may be a file of another system's predictions.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import isfinite
from pathlib import Path

import numpy as np

from protoformer.errors import UserError
from protoformer.reporting.comparison import example_metrics, selection
from protoformer.reporting.comparison.examples import Examples, check_same
from protoformer.reporting.comparison.sides import Sides, of_split, sides_of, splits_of
from protoformer.reporting.paper_results import is_percent
from protoformer.runs.reader import Record
from protoformer.significance import intervals, power, randomization
from protoformer.significance.intervals import Clusters, DifferenceInterval, Over
from protoformer.significance.metrics import Metric, value

COMPARABLE = (
    "comparable are runs whose predictions have known labels, and language models; protoformer report lists the scores of any "
    "runs side by side"
)
HALF_A_POINT = 0.005  # the difference for which the needed examples and runs are printed
LEVEL = 0.05
RANDOMIZED = 2_000  # outputs exchanged anew, at most; the hierarchical bootstrap draws as many


@dataclass(frozen=True)
class Comparison:
    """One metric of one task's split: the value of each run, the interval of the difference of means, and what p becomes where
    several tasks are compared at once. `randomized_p` is that of approximate randomisation, None where it is not defined.

    Over both, `of_examples` and `of_seeds` are the intervals over one of them alone, and `hierarchical` that of a bootstrap of
    runs and examples. What shows half a point: `examples_needed` with these runs, None where the difference is the same on
    every example; `seeds_needed` on these examples, and `seeds_needed_on_others` of the same number, None without two runs on
    each side. `notes` are sentences on what was not compared and on how the runs came to be. `is_percent`: it is a score, and
    printed times 100."""

    task: str
    split: str
    metric: str
    examples: int
    clusters: int
    ours: list[float]
    theirs: list[float]
    over: Over
    interval: DifferenceInterval
    randomized_p: float | None
    of_examples: DifferenceInterval | None
    of_seeds: DifferenceInterval | None
    hierarchical: DifferenceInterval | None
    examples_needed: int | None
    seeds_needed: float | None
    seeds_needed_on_others: float | None
    notes: tuple[str, ...] = ()
    corrected_p: float = 1.0
    is_percent: bool = True

    @property
    def lower_is_better(self) -> bool:
        return self.metric.endswith("perplexity") or self.metric.startswith(example_metrics.BITS)

    @property
    def verdict(self) -> str:
        """Of a metric of a kind of one's own that is no score, higher or lower: which is better is not known."""
        if self.corrected_p >= LEVEL:
            return "not shown"
        if not self.is_percent and not self.lower_is_better:
            return "higher" if self.interval.difference > 0 else "lower"
        return "better" if (self.interval.difference > 0) != self.lower_is_better else "worse"


@dataclass(frozen=True)
class Options:
    """`over` None: other examples and other seeds where each side has two runs at least, else other examples."""

    over: Over | None = None
    resamples: int = 10_000
    clusters: str | None = None


def compare(ours: Sequence[Path], theirs: Sequence[Path], options: Options | None = None) -> list[Comparison]:
    """Compare two groups of runs, task by task, on each split with predictions of all runs and known labels; where there are
    files of predictions, on the splits that they name. A file is of the task whose examples it has.

    Raises UserError for runs of tasks that one side lacks, unfinished runs, different examples, and files that do not fit.
    """
    options = options or Options()
    if options.resamples < 1:
        raise UserError(f"--resamples {options.resamples}: at least one")
    sides = sides_of(ours, theirs)
    comparisons = [
        each
        for task in dict.fromkeys(record.task for side in sides for record in side.records)
        for each in _of_task(task, (sides[0].of_task(task), sides[1].of_task(task)), options)
    ]
    return list(_corrected(comparisons))


def _of_task(task: str, sides: Sides, options: Options) -> list[Comparison]:
    record = next(record for side in sides for record in side.records)
    comparisons = []
    shared, missing = splits_of(sides)
    notes = [f"{split}: not compared, as {run} did not predict it" for split, run in missing.items()]
    for split in shared:
        ours, theirs = of_split(split, sides)
        examples = [*ours, *theirs]
        if not _has_scores(examples):
            continue
        check_same(examples)
        clusters = ours[0].clusters(options.clusters)
        metrics = [example_metrics.of_examples(each) for each in examples]
        names = _in_all([metrics[number] for number, each in enumerate(examples) if not each.of_file])
        in_all = _in_all(metrics)
        if left_out := [name for name in names if name not in in_all]:
            notes.append(f"{split}: not compared, as files of predictions do not give them: {', '.join(left_out)}")
        infinite = _not_finite(examples, metrics, in_all)
        notes += [f"{split}: {name} is not compared, as that of {run} is no number" for name, run in infinite.items()]
        for name in in_all:
            if name not in infinite:
                runs = [each[name] for each in metrics]
                comparison = _comparison(task, split, name, runs[: len(ours)], runs[len(ours) :], clusters, options)
                comparisons.append(replace(comparison, is_percent=_is_percent(name, record)))
        if infinite and not comparisons:
            raise UserError(notes[-1])
    notes += selection.notes(sides, dict.fromkeys(each.split for each in comparisons))
    if not comparisons:
        if not (record.result or {})["task_type"].get("has_labels", True):
            raise UserError(_old(record.folder, "what it was evaluated on"))
        raise UserError(f"{task}: no metric of its runs can be computed from their examples; {COMPARABLE}")
    return [replace(each, notes=tuple(notes)) for each in comparisons]


def _is_percent(name: str, record: Record) -> bool:
    """Whether a metric is a score, which papers print times 100, and more of which is better."""
    if name.endswith("perplexity") or name.startswith(example_metrics.BITS):
        return False
    known = {"chrf", *(record.result or {})["task_type"]["main_metrics"]}
    return name in known or "accuracy" in name or is_percent(name, record.result or {})


def _not_finite(
    examples: Sequence[Examples], metrics: Sequence[Mapping[str, Metric]], names: Sequence[str]
) -> dict[str, Path]:
    """The metrics that are no finite number of some run, such as the perplexity of one that diverged, with that run."""
    sources: dict[str, Path] = {}
    for name in names:
        for each, functions in zip(examples, metrics, strict=True):
            recorded = each.metrics.get(name)
            if not isfinite(value(functions[name])) or not (recorded is None or isfinite(recorded)):
                sources.setdefault(name, each.source)
    return sources


def _in_all(metrics: Sequence[Mapping[str, Metric]]) -> list[str]:
    return [name for name in metrics[0] if all(name in each for each in metrics)]


def _has_scores(examples: Sequence[Examples]) -> bool:
    """Whether a split has labels or scores. Raises UserError for a language model that recorded none, and labels of one run
    alone."""
    missing = [each for each in examples if not each.are_labelled and not each.scores]
    if not missing:
        return True
    if len(missing) == len(examples) and missing[0].has_labels:
        return False  # hidden labels
    raise UserError(_old(missing[0].source, missing[0].split))


def _old(run: Path, split: str) -> str:
    return (
        f"{run} recorded no score of each example of {split}, as runs of earlier versions: the same command with "
        "force=true is a new attempt that does"
    )


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
    units = ours[0].n_examples if clusters is None else len(np.unique(clusters))
    if over != "seeds" and units < 2:
        raise UserError(f"{task}: one example of {split} alone, so other examples cannot be drawn")
    resamples = min(options.resamples, RANDOMIZED)
    hierarchical = of_seeds = None
    if over == "examples":
        interval = of_examples = intervals.over_examples(ours, theirs, clusters, resamples=options.resamples)
    else:
        of_examples = intervals.over_examples(ours, theirs, clusters, resamples=resamples)
        interval = of_seeds = intervals.over_seeds(ours, theirs)
    if over == "both":
        interval = intervals.over_both(ours, theirs, clusters)
        hierarchical = intervals.hierarchical_bootstrap(ours, theirs, clusters, resamples=resamples)
    examples_needed = (
        power.examples_needed(of_examples.standard_error**2, ours[0].n_examples, HALF_A_POINT, units=units)
        if over != "seeds" and of_examples.standard_error > 0
        else None
    )
    here, on_others = _seeds_needed(over, ours, theirs, clusters)
    return Comparison(
        task, split, name, ours[0].n_examples, units,
        [value(run) for run in ours], [value(run) for run in theirs],
        over, interval, _randomized(over, ours, theirs, clusters, resamples),
        of_examples if over == "both" else None, of_seeds if over == "both" else None, hierarchical,
        examples_needed, here, on_others,
    )  # fmt: skip


def _seeds_needed(
    over: Over, ours: Sequence[Metric], theirs: Sequence[Metric], clusters: Clusters | None
) -> tuple[float | None, float | None]:
    """The number of runs on each side, on the same examples and on others; None where it is not asked for."""
    runs = len(ours), len(theirs)
    if over == "examples":
        return None, None
    units = ours[0].n_examples if clusters is None else len(np.unique(clusters))
    if units < 2:
        return None, None
    spread = intervals.variance(ours, theirs, clusters)
    here, on_others = (
        power.seeds_needed(spread, runs, HALF_A_POINT, same_examples=same_examples) for same_examples in (True, False)
    )
    return here, None if over == "seeds" else on_others


def _randomized(
    over: Over, ours: Sequence[Metric], theirs: Sequence[Metric], clusters: Clusters | None, resamples: int
) -> float | None:
    """p of outputs exchanged between pairs of runs, of runs dealt anew, or over both the larger of the two. Sides of different
    numbers of runs have no pairs."""
    p_values = []
    if over != "seeds" and len(ours) == len(theirs):
        p_values.append(randomization.over_examples(ours, theirs, clusters, resamples=resamples))
    if over != "examples":
        p_values.append(randomization.over_seeds(ours, theirs))
    return max(p_values, default=None)


def _corrected(comparisons: Sequence[Comparison]) -> Iterator[Comparison]:
    """With Holm's correction over all of them, where there are several tasks; as they are where there is one."""
    several = len({each.task for each in comparisons}) > 1
    p = [each.interval.p for each in comparisons]
    for each, number in zip(comparisons, power.holm(p) if several else p, strict=True):
        yield replace(each, corrected_p=number)
