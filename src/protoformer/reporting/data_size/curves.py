"""Finished runs as curves of a score over the number of training examples."""

import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from protoformer.errors import UserError
from protoformer.reporting.groups.runs import ReportedRun, seed_of
from protoformer.reporting.paper_results import is_percent, typed_settings
from protoformer.reporting.recipes import recipe_names
from protoformer.reporting.report import collect
from protoformer.significance import student_t

SCORE = "score"
LEVEL = 0.95
LEFT_OUT_ROWS = ("skipped", "too_long")  # counts of training rows that are no examples
LANGUAGE_MODELS = "perplexity"


@dataclass(frozen=True)
class Size:
    """The runs of a curve that were trained on as many examples, with their dev scores in order of seed."""

    examples: int
    runs: tuple[ReportedRun, ...]
    scores: tuple[float, ...]

    @property
    def mean(self) -> float:
        return statistics.fmean(self.scores)

    @property
    def deviation(self) -> float | None:
        """Standard deviation of the sample; None for one run."""
        return statistics.stdev(self.scores) if len(self.scores) > 1 else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """Student's t interval of the mean over seeds, within 0 and 1 where all scores are; None for one run, and for scores
        that are all the same."""
        if not self.deviation:
            return None
        count = len(self.scores)
        half = student_t.quantile((1 + LEVEL) / 2, count - 1) * self.deviation / math.sqrt(count)
        low, high = self.mean - half, self.mean + half
        bounded = min(self.scores) >= 0 and max(self.scores) <= 1
        return (max(0.0, low), min(1.0, high)) if bounded else (low, high)

    @property
    def seeds(self) -> tuple[object, ...]:
        return tuple(map(seed_of, self.runs))

    @property
    def degenerate(self) -> int:
        return sum(bool(run.problems) for run in self.runs)


@dataclass(frozen=True)
class DataSizeCurve:
    """Runs that agree in all but seed and training examples, by number of examples."""

    task: str
    model: str
    recipe: str
    label: str  # the model, and the recipe where the model has several on this task
    metric: str
    percent: bool
    sizes: tuple[Size, ...]


class _Key(NamedTuple):
    task: str
    model: str
    recipe: str
    dev_data: str


def read_curves(folders: Sequence[str], metric: str | None = None) -> tuple[list[DataSizeCurve], list[str]]:
    """Curves of the dev score (or of `metric` on dev), in order of task and label; and a line for each run or group that is in
    none of them.

    Raises UserError where no two runs differ in the number of training examples alone.
    """
    collected = collect(folders)
    left_out = [*collected.skipped, *(f"{each}: not finished" for each in collected.unfinished + collected.never_began)]
    runs = []
    for run in collected.runs:
        if reason := _unusable(run, metric):
            left_out.append(f"{run.record.folder}: {reason}")
        else:
            runs.append(run)
    curves, groups = [], _groups(runs)
    for key, of_group in sorted(groups.items()):
        members, repeated = _distinct(of_group)
        left_out += repeated
        sizes, label = _sizes(members, metric), _label(key, groups)
        if len(sizes) < 2:
            number = f"{len(members)} run{'s' * (len(members) != 1)}"
            left_out.append(f"{label} on {key.task}: {number}, all with {sizes[0].examples:,} training examples")
            continue
        name, result = metric or _score_name(members[0].result), members[0].result
        curves.append(DataSizeCurve(key.task, key.model, key.recipe, label, name, is_percent(name, result), sizes))
    if not curves:
        reason = f"; {left_out[0]}" if left_out else ""
        more = f" (and {len(left_out) - 1} more)" if len(left_out) > 1 else ""
        raise UserError(
            f"{', '.join(folders)}: no finished runs that differ in the number of training examples and agree in the other "
            f"settings{reason}{more}"
        )
    return curves, left_out


def training_examples(result: Mapping[str, Any]) -> int | None:
    """Rows of the training split without those that were left out; None where the result has none."""
    counts = (result.get("data") or {}).get("train") or {}
    rows = counts.get("rows")
    return None if not rows else rows - sum(counts.get(name) or 0 for name in LEFT_OUT_ROWS)


def _unusable(run: ReportedRun, metric: str | None) -> str | None:
    """Why a run is on no curve; None for one that is."""
    if run.result["task_type"].get("headline") == LANGUAGE_MODELS:
        return "a language model, see protoformer report scaling"
    if (run.result.get("training") or {}).get("steps") == 0 or not run.result.get("data", {}).get("train"):
        return "nothing was trained"
    if training_examples(run.result) is None:
        return "result.json has no number of training rows"
    value = _value(run, metric)
    if value is None:
        names = ", ".join(key.removeprefix("val/") for key in run.result["metrics"] if key.startswith("val/"))
        return f"no {metric or SCORE} of a dev set; it has {names or 'none'}"
    return None if math.isfinite(value) else f"{metric or SCORE} is {value}"


def _value(run: ReportedRun, metric: str | None) -> float | None:
    value = run.result.get("score") if metric in (None, SCORE) else run.result["metrics"].get(f"val/{metric}")
    return None if value is None else float(value)


def _score_name(result: Mapping[str, Any]) -> str:
    """The metric whose value the dev score is, or `score` for the mean of several."""
    names = [key.removeprefix("val/") for key in result["metrics"] if key.startswith("val/")]
    main = [name for name in names if name.rpartition("/")[2] in result["task_type"]["main_metrics"]]
    return main[0] if len(main) == 1 else SCORE


def _groups(runs: Sequence[ReportedRun]) -> dict[_Key, list[ReportedRun]]:
    by_task: dict[tuple[str, str], list[ReportedRun]] = defaultdict(list)
    for run in runs:
        by_task[run.record.task, run.record.model].append(run)
    groups: dict[_Key, list[ReportedRun]] = defaultdict(list)
    for (task, model), members in by_task.items():
        settings = [_settings(run) for run in members]
        typed = dict.fromkeys(key for run in members for key in typed_settings(run.record.config))
        for name, run in zip(recipe_names(settings, list(typed)), members, strict=True):
            groups[_Key(task, model, name, _dev_data(run.result))].append(run)
    return groups


def _distinct(runs: Sequence[ReportedRun]) -> tuple[list[ReportedRun], list[str]]:
    """Runs without those that repeat the seed and the training rows of another, whose scores are no further sample; and a line
    for each of these."""
    kept: list[ReportedRun] = []
    left_out: list[str] = []
    by_rows: dict[tuple[str, int | None, object], ReportedRun] = {}
    for run in runs:
        digest = ((run.result.get("digests") or {}).get("data") or {}).get("train", run.record.folder)
        same = by_rows.setdefault((str(digest), training_examples(run.result), seed_of(run)), run)
        if same is run:
            kept.append(run)
        else:
            left_out.append(f"{run.record.folder}: seed and training rows of {same.record.folder}")
    return kept, left_out


def _label(key: _Key, keys: Iterable[_Key]) -> str:
    """What distinguishes a curve from the others of its task."""
    beside = [each for each in keys if each[:2] == key[:2]]
    parts = [key.model]
    parts += [key.recipe] if len({each.recipe for each in beside}) > 1 else []
    parts += [key.dev_data] if len({each.dev_data for each in beside}) > 1 else []
    return ", ".join(parts)


def _settings(run: ReportedRun) -> dict[str, object]:
    """Settings without the training split, and without the size of a vocabulary that is learnt from it."""
    typed = typed_settings(run.record.config)
    follows = ("task.splits.train", *(() if "model.vocab_size" in typed else ("model.vocab_size",)))
    return {key: value for key, value in run.settings.items() if key not in follows}


def _dev_data(result: Mapping[str, Any]) -> str:
    digests = (result.get("digests") or {}).get("data") or {}
    return " ".join(f"{name} {digest}" for name, digest in sorted(digests.items()) if name.startswith("validation"))


def _sizes(runs: Sequence[ReportedRun], metric: str | None) -> tuple[Size, ...]:
    by_size: dict[int, list[ReportedRun]] = defaultdict(list)
    for run in sorted(runs, key=lambda run: str(seed_of(run)).rjust(20)):
        by_size[training_examples(run.result) or 0].append(run)
    return tuple(
        Size(examples, tuple(members), tuple(_value(run, metric) or 0.0 for run in members))
        for examples, members in sorted(by_size.items())
    )
