"""Comparison of runs with each other and with the papers: tables for the terminal, CSV and Markdown.

Runs of one model on one task are grouped by recipe (all settings that can change a result, except the seed), with mean and
standard deviation (n - 1) over seeds. The best single run on dev, which papers submit, is marked. Degenerate runs are named;
they count in the means.
"""

import csv
import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from protoformer.atomic import replace_atomically, write_text
from protoformer.errors import RunFolderError
from protoformer.reporting import diagnostics, paper_results, results
from protoformer.reporting.paper_results import is_percent
from protoformer.reporting.recipes import ALWAYS_SHOWN, differing, recipe_names, settings
from protoformer.reporting.tables import escape_markdown, make_console, markdown_table, print_line, print_table
from protoformer.runs import reader
from protoformer.runs.metrics import read_curves
from protoformer.scoring import squad


@dataclass(frozen=True)
class ReportedRun:
    """A finished run, the settings that define its recipe, and descriptions of what is wrong with it."""

    record: reader.Record
    result: dict[str, Any]
    settings: dict[str, Any]
    problems: list[str]

    @property
    def score(self) -> float:
        value = self.result.get("score")
        return math.nan if value is None else float(value)


@dataclass(frozen=True)
class TaskRuns:
    """All runs of one model on one task, by name of the recipe, best recipe first."""

    model: str
    task: str
    recipes: dict[str, list[ReportedRun]]

    @property
    def runs(self) -> list[ReportedRun]:
        return [run for runs in self.recipes.values() for run in runs]

    @property
    def best(self) -> ReportedRun | None:
        """The run with the highest score on dev."""
        return max((run for run in self.runs if math.isfinite(run.score)), key=lambda run: run.score, default=None)

    @property
    def keys(self) -> list[str]:
        """Metrics of the table: those of dev sets, then those of test sets."""
        keys = dict.fromkeys(key for run in self.runs for key in paper_results.score_keys(run.result["metrics"]))
        return sorted((key for key in keys if not squad.is_detail(key)), key=lambda key: not key.startswith("val/"))

    @property
    def details(self) -> list[str]:
        """Scores without a column: they analyse others, and are in the CSV file."""
        keys = dict.fromkeys(key for run in self.runs for key in paper_results.score_keys(run.result["metrics"]))
        return [key for key in keys if squad.is_detail(key)]

    @property
    def has_mean(self) -> bool:
        """Whether dev scores (or test scores, where there are no others) are several, and have a column for their mean."""
        if any(run.result["task_type"].get("headline") for run in self.runs):
            return False  # a perplexity says more than the score that it is chosen by
        stages = [key.partition("/")[0] for key in self.keys]
        return bool(stages) and stages.count(stages[0]) > 1

    @property
    def columns(self) -> list[str]:
        """Columns of the table: `keys`, preceded by the mean of the dev scores if there are several."""
        return [f"{self.keys[0].partition('/')[0]}/score", *self.keys] if self.has_mean else self.keys


@dataclass
class CollectedRuns:
    """The runs of the folders, and those that are left out."""

    runs: list[ReportedRun] = field(default_factory=list)
    unfinished: list[str] = field(default_factory=list)
    never_began: list[str] = field(default_factory=list)  # unfinished without a step
    skipped: list[str] = field(default_factory=list)
    replaced: int = 0


def main(folders: Sequence[str], csv: str | None = None, markdown: str | None = None) -> None:
    """Print the runs in `folders`. `csv` names a file with one row per run, `markdown` a file with the printed tables.

    Raises UserError for a folder that does not exist or has no runs. A run that cannot be read is reported and left out.
    """
    console = make_console()
    collected = collect(folders)
    groups = arrange(collected.runs)
    for group in groups:
        _print(group, console)
    for line in omitted_runs(collected):
        print_line(console, line)
    if csv is not None:
        write_csv(Path(csv), groups, collected)
    if markdown is not None:
        write_markdown(Path(markdown), groups, collected)


def collect(folders: Sequence[str]) -> CollectedRuns:
    """Read every run; of several attempts of one run, take the last finished one."""
    collected = CollectedRuns()
    attempts: dict[tuple[Path, str], ReportedRun] = {}
    for folder in reader.find_runs(folders):
        try:
            record = reader.read(folder)
            if record.result is None:
                step = _last_step(folder)
                if step is None:
                    collected.never_began.append(str(folder))
                else:
                    collected.unfinished.append(f"{folder} (at step {step:,})")
                continue
            run = ReportedRun(record, record.result, settings(record.config), diagnostics.find_problems(record))
            for group in arrange(
                [run]
            ):  # a result of another program, or of a later version, may lack or change anything
                table_of(group), group_notes(group)
        except RunFolderError as error:
            collected.skipped.append(str(error))
            continue
        except Exception as error:  # of any kind: one run does not hide the others
            message = " ".join(str(error).split())[:200]
            collected.skipped.append(
                f"{folder}: cannot be read as a run of this version ({type(error).__name__}: {message})"
            )
            continue
        same = (folder.parent, str(run.result["run_id"]))
        if same in attempts:
            collected.replaced += 1
        if same not in attempts or _attempt(run) > _attempt(attempts[same]):
            attempts[same] = run
    collected.runs = list(attempts.values())
    return collected


def arrange(runs: Iterable[ReportedRun]) -> list[TaskRuns]:
    """Runs by model and task, then by recipe; within a group the recipe with the best mean on dev comes first."""
    by_task: dict[tuple[str, str], list[ReportedRun]] = defaultdict(list)
    for run in runs:
        by_task[run.record.model, run.record.task].append(run)
    groups = []
    for (model, task), members in sorted(by_task.items()):
        recipes: dict[str, list[ReportedRun]] = defaultdict(list)
        typed = dict.fromkeys(key for run in members for key in paper_results.typed_settings(run.record.config))
        for name, run in zip(recipe_names([run.settings for run in members], list(typed)), members, strict=True):
            recipes[name].append(run)
        ranked = sorted(recipes.items(), key=lambda recipe: (-_mean_score(recipe[1]), recipe[0]))
        groups.append(TaskRuns(model, task, {name: sorted(group, key=_seed) for name, group in ranked}))
    return groups


def table_of(group: TaskRuns) -> tuple[list[str], list[list[str]]]:
    """Head and lines of a group's table: runs by recipe, each with its matching ablation row, then the paper's results."""
    keys, columns, several = group.keys, group.columns, group.has_mean
    head = ["recipe", "n", *(["score"] if several else []), *keys, "examples/s", ""]
    best, lines = group.best, []
    for name, runs in group.recipes.items():
        failed = sum(bool(run.problems) for run in runs)
        marks = ["best on dev"] if best is not None and any(run is best for run in runs) else []
        marks += [f"{failed} of {len(runs)} degenerate"] if failed else []
        cells = [mean_std([_mean_score_of(run, columns[0]) for run in runs], percent=True)] if several else []
        cells += [
            mean_std([run.result["metrics"].get(key) for run in runs], is_percent(key, runs[0].result)) for key in keys
        ]
        speeds = [
            speed for run in runs if (speed := (run.result.get("training") or {}).get("examples_per_s")) is not None
        ]
        speed = f"{statistics.fmean(speeds):.1f}" if speeds else "-"
        lines.append([name, str(len(runs)), *cells, speed, ", ".join(marks)])
        lines += _paper_lines(paper_results.ablation_variants(group.model, group.task, runs[0].record.config), columns)
    lines += _paper_lines(paper_results.published(group.model, group.task), columns)
    return head, lines


def _paper_lines(rows: Iterable[paper_results.Row], columns: Sequence[str]) -> list[list[str]]:
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
        lines.append(
            f"best on dev: {results.score_text(group.best.result)}, seed {_seed(group.best)}, {group.best.record.folder}"
        )
    if group.details:
        lines.append(f"further metrics, in the file of --csv alone: {', '.join(group.details)}")
    if constant := _constant_settings(group):
        lines.append(f"all runs: {constant}")
    if group.best is not None:
        lines += _confusion_lines(group.best)
    for run in group.runs:
        lines += (
            [f"degenerate: {run.record.folder.name}, seed {_seed(run)}: {'; '.join(run.problems)}"]
            if run.problems
            else []
        )
    if _published(group):
        caveats: dict[str, int] = defaultdict(int)
        for run in group.runs:
            caveats["; ".join(paper_results.caveats(run.record.config))] += 1
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


def _published(group: TaskRuns) -> list[paper_results.Row]:
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


def write_csv(file: Path, groups: Sequence[TaskRuns], collected: CollectedRuns) -> None:
    """Write one row per run and one per published number, with accuracies and correlations times 100.

    After the metrics come the config keys in which the runs differ; a cell is blank where the key is missing or null.
    """
    differing_keys = differing([run.settings for group in groups for run in group.runs])
    keys = list(dict.fromkeys(key for group in groups for run in group.runs for key in run.result["metrics"]))
    head = ["state", "model", "task", "recipe", "seed", "run_id", "attempt", "score", *keys]
    rows: list[dict[str, Any]] = []
    for group in groups:
        for recipe, runs in group.recipes.items():
            for run in runs:
                state = "best on dev" if run is group.best else "degenerate" if run.problems else "finished"
                values = {
                    key: _number(value, is_percent(key, run.result)) for key, value in run.result["metrics"].items()
                }
                rows.append({"state": state, "model": group.model, "task": group.task, "recipe": recipe} | values)
                rows[-1] |= {"seed": _seed(run), "run_id": run.result["run_id"], "attempt": _attempt(run)}
                rows[-1] |= {"score": _number(run.score, percent=True), "notes": "; ".join(run.problems)}
                rows[-1] |= {"folder": str(run.record.folder)}
                rows[-1] |= {
                    key: paper_results.as_yaml(run.settings[key]) for key in differing_keys if key in run.settings
                }
        for row in _published(group):
            rows.append(
                {"state": "published", "model": row.model, "task": row.task, "recipe": f"{row.source}: {row.row}"}
            )
            rows[-1] |= {row.key: row.value, "notes": row.protocol}
            head += [row.key] if row.key not in head else []
    rows += [{"state": "unfinished", "folder": text} for text in (*collected.unfinished, *collected.never_began)]
    rows += [{"state": "unreadable", "notes": text} for text in collected.skipped]
    with replace_atomically(file) as tmp, tmp.open("w", encoding="utf-8", newline="") as lines:
        writer = csv.DictWriter(lines, [*head, *differing_keys, "notes", "folder"], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def write_markdown(file: Path, groups: Sequence[TaskRuns], collected: CollectedRuns) -> None:
    """The printed tables, as Markdown."""
    parts = ["# Runs beside the papers"]
    for group in groups:
        head, lines = table_of(group)
        table = markdown_table(head, lines, right=head[1:-1])
        parts += [f"## {escape_markdown(group.model)} on {escape_markdown(group.task)}", table]
        parts.append("\n".join(f"- {escape_markdown(line)}" for line in group_notes(group)))
    if omitted := omitted_runs(collected):
        parts += ["## Not in the tables", "\n".join(f"- {escape_markdown(line)}" for line in omitted)]
    write_text(file, "\n\n".join(parts) + "\n")


def _print(group: TaskRuns, console: Console) -> None:
    head, lines = table_of(group)
    n_runs = len(lines) - len(_paper_lines(paper_results.published(group.model, group.task), group.columns))
    print_table(
        head,
        lines,
        f"{group.model} x {group.task}",
        console=console,
        framed=True,
        right=head[1:-1],
        section_after=n_runs,
    )
    for line in group_notes(group):
        print_line(console, line)
    console.print()


def _last_step(folder: Path) -> int | None:
    """The last step that an unfinished run logged or saved a checkpoint at; None: it reached none."""
    file = folder / "metrics.jsonl"
    steps = [steps[-1] for steps, _ in read_curves(file).values()] if file.exists() else []
    if steps:
        return max(steps)
    return 0 if (folder / "checkpoints" / "last.ckpt").exists() else None


def _mean_score_of(run: ReportedRun, column: str) -> float | None:
    """The mean of a run's dev scores, or of its test scores where it has no others."""
    return run.result.get("score") if column == "val/score" else run.result["metrics"].get(column)


def _mean_score(runs: Sequence[ReportedRun]) -> float:
    scores = [run.score for run in runs if math.isfinite(run.score)]
    return statistics.fmean(scores) if scores else -math.inf


def _seed(run: ReportedRun) -> Any:
    return run.result.get("seed", run.record.config.get("seed", "?"))


def _attempt(run: ReportedRun) -> int:
    return int(run.result.get("attempt") or 1)


def _number(value: float, percent: bool) -> float:
    return round(100 * value, 4) if percent else value
