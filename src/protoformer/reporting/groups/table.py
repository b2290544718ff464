"""The table of a group of runs beside the papers' rows, and the notes under it."""

import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import combinations

from protoformer.reporting import paper_results, results
from protoformer.reporting.groups.runs import CollectedRuns, ReportedRun, TaskRuns, seed_of
from protoformer.reporting.paper_results import is_percent
from protoformer.reporting.recipes import ALWAYS_SHOWN
from protoformer.reporting.tables import counted
from protoformer.significance.compact_display import compact_display
from protoformer.significance.intervals import welch
from protoformer.significance.power import holm

SIGNIFICANT = 0.05


def table_of(group: TaskRuns) -> tuple[list[str], list[list[str]]]:
    """Head and lines of a group's table: runs by recipe, each with its matching ablation row, then the paper's results."""
    keys, columns, several = group.keys, group.columns, group.has_mean
    head = ["recipe", "n", *(["score"] if several else []), *keys, "examples/s", ""]
    best, lines, shared = group.best, [], compact_display_of(group)
    selected = f" of {candidates}" if (candidates := _candidates(group)) > 1 else ""
    for name, runs in group.recipes.items():
        failed = sum(bool(run.problems) for run in runs)
        marks = [f"best on dev{selected}"] if best is not None and any(run is best for run in runs) else []
        marks += [f"{failed} of {len(runs)} degenerate"] if failed else []
        cells = [mean_std([_mean_score_of(run, columns[0]) for run in runs], percent=True)] if several else []
        cells += [
            mean_std([run.result["metrics"].get(key) for run in runs], is_percent(key, runs[0].result)) for key in keys
        ]
        if name in shared:
            cells[0] += f" {shared[name]}"
        speeds = [
            speed for run in runs if (speed := (run.result.get("training") or {}).get("examples_per_s")) is not None
        ]
        speed = f"{statistics.fmean(speeds):.1f}" if speeds else "-"
        lines.append([name, str(len(runs)), *cells, speed, ", ".join(marks)])
        lines += paper_lines(paper_results.ablation_variants(group.model, group.task, runs[0].record.config), columns)
    lines += paper_lines(paper_results.published(group.model, group.task), columns)
    return head, lines


def compact_display_of(group: TaskRuns) -> dict[str, str]:
    """Recipe -> its letters (compact letter display): recipes without a common one differ over seeds in the first column. Of
    recipes with several runs, where there are two of them; Welch's t with Holm's correction over their pairs."""
    column = group.columns[0] if group.columns else ""
    scores: dict[str, list[float]] = {}
    for name, runs in group.recipes.items():
        values = [value for run in runs if (value := _mean_score_of(run, column)) is not None and math.isfinite(value)]
        if len(values) == len(runs) > 1:
            scores[name] = values
    if len(scores) < 2:
        return {}
    pairs = list(combinations(range(len(scores)), 2))
    of_recipe = list(scores.values())
    p_values = holm([welch(of_recipe[i], of_recipe[j]).p for i, j in pairs])
    different = [pair for pair, p in zip(pairs, p_values, strict=True) if p < SIGNIFICANT]
    return dict(zip(scores, compact_display(len(scores), different), strict=True))


def _candidates(group: TaskRuns) -> int:
    """Runs that the best one was selected of."""
    return sum(math.isfinite(run.score) for run in group.runs)


def paper_lines(rows: Iterable[paper_results.Row], columns: Sequence[str]) -> list[list[str]]:
    """One line per row of a paper, with the numbers that have a column; dev before test."""
    lines: dict[str, dict[str, str]] = defaultdict(dict)
    for row in rows:
        column = row.key if row.key in columns else row.key.replace("test/", "val/", 1)
        value = f"{row.value:g}" if column == row.key else f"{row.value:g} (test)"
        if column in columns:
            lines[f"{row.source}: {row.row}"].setdefault(column, value)
    return [[name, "", *(values.get(key, "") for key in columns), "", ""] for name, values in lines.items()]


def mean_std(values: Sequence[float | None], percent: bool) -> str:
    """Mean and standard deviation in the papers' units, `84.31 ± 0.52`; the value alone for one run."""
    numbers = [value for value in values if value is not None]
    if not numbers:
        return "-"
    mean = paper_results.format_metric(statistics.fmean(numbers), percent)
    if len(numbers) == 1 or any(math.isnan(number) for number in numbers):
        return mean
    return f"{mean} ± {paper_results.format_metric(statistics.stdev(numbers), percent)}"


def group_notes(group: TaskRuns) -> list[str]:
    """Lines under a group's table: the best run, degenerate runs, and differences from the paper's experiment."""
    lines = []
    if group.best is not None:
        candidates = _candidates(group)
        lines.append(
            f"best on dev: {results.score_text(group.best.result)}, seed {seed_of(group.best)}, {group.best.record.folder}"
            + (
                ""
                if candidates == 1
                else f"; selected of {candidates} runs: another run of its recipe is likely to be worse"
            )
        )
    if shared := compact_display_of(group):
        pairs = counted(len(shared) * (len(shared) - 1) // 2, "pair")
        lines.append(
            f"letters beside {group.columns[0]}: of recipes that have some, those without a common letter differ over seeds "
            f"(Welch's t, Holm's correction for {pairs}, p < {SIGNIFICANT:g}); others are not shown to"
        )
    if group.details:
        lines.append(f"further metrics, in the file of --csv alone: {', '.join(group.details)}")
    if constant := _constant_settings(group):
        lines.append(f"all runs: {constant}")
    if group.best is not None:
        lines += _confusion_lines(group.best)
    for run in group.runs:
        lines += (
            [f"degenerate: {run.record.folder.name}, seed {seed_of(run)}: {'; '.join(run.problems)}"]
            if run.problems
            else []
        )
    if published_rows(group):
        caveats: dict[str, int] = defaultdict(int)
        for run in group.runs:
            caveats["; ".join(paper_results.caveats(run.record.config, run.result))] += 1
        lines += [
            f"not the paper's experiment ({n} of {len(group.runs)} runs): {text}" for text, n in caveats.items() if text
        ]
    else:
        lines.append("no published results for this model and task are recorded")
    return lines


def _confusion_lines(run: ReportedRun) -> list[str]:
    """The confusion matrix of a run whose task names it among its metrics, a line a label."""
    if "confusion_matrix" not in (((run.record.config.get("task") or {}).get("module") or {}).get("metrics") or ()):
        return []
    lines = []
    for split, scores in (run.result.get("class_scores") or {}).items():
        if split.startswith("val"):
            lines.append(f"confusion matrix of {split}, predicted as: {', '.join(scores['labels'])}")
            pairs = zip(scores["labels"], scores["confusion_matrix"], strict=True)
            lines += [f"    {label}: {' '.join(map(str, counts))}" for label, counts in pairs]
    return lines


def _constant_settings(group: TaskRuns) -> str:
    """The keys that were typed for every run, with one value, and stand in no recipe's name."""
    typed = [paper_results.typed_settings(run.record.config) for run in group.runs]
    return " ".join(
        f"{key}={paper_results.as_yaml(value)}"
        for key, value in (typed[0] if typed else {}).items()
        if key not in ALWAYS_SHOWN and all(each.get(key, ...) == value for each in typed)
    )


def published_rows(group: TaskRuns) -> list[paper_results.Row]:
    """The published numbers for a group's runs: matching ablation rows, and those of the unmodified model."""
    configs = [runs[0].record.config for runs in group.recipes.values()]
    variants = [row for config in configs for row in paper_results.ablation_variants(group.model, group.task, config)]
    return [*dict.fromkeys(variants), *paper_results.published(group.model, group.task)]


def omitted_runs(collected: CollectedRuns) -> list[str]:
    """Lines on runs that are in no table."""
    lines = [f"unfinished: {text}" for text in collected.unfinished]
    if collected.never_began:
        first, *others = collected.never_began
        more = f" and {len(others)} more" if others else ""
        lines.append(f"never reached a first step: {first}{more}")
    lines += [f"warning: left out: {text}" for text in collected.skipped]
    if collected.replaced:
        lines.append(f"{collected.replaced} earlier attempt(s) left out: the last finished attempt of a run counts")
    return lines


def _mean_score_of(run: ReportedRun, column: str) -> float | None:
    """The mean of a run's dev scores, or of its test scores where it has no others."""
    return run.result.get("score") if column == "val/score" else run.result["metrics"].get(column)
