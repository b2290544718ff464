"""Finished runs, grouped by model, task and recipe."""

import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from protoformer.reporting import paper_results
from protoformer.reporting.recipes import recipe_names
from protoformer.runs import reader
from protoformer.scoring import squad


@dataclass(frozen=True)
class ReportedRun:
    """A finished run, the settings that define its recipe, and descriptions of what is wrong with it."""

    record: reader.Record
    result: dict[str, Any]
    settings: dict[str, object]
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
        groups.append(TaskRuns(model, task, {name: sorted(group, key=seed_of) for name, group in ranked}))
    return groups


def _mean_score(runs: Sequence[ReportedRun]) -> float:
    scores = [run.score for run in runs if math.isfinite(run.score)]
    return statistics.fmean(scores) if scores else -math.inf


def seed_of(run: ReportedRun) -> Any:
    return run.result.get("seed", run.record.config.get("seed", "?"))


def attempt_of(run: ReportedRun) -> int:
    return int(run.result.get("attempt") or 1)
