"""The trials of a sweep as rows, from its journal."""

import statistics
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from protoformer.runs.lock import is_in_use
from protoformer.sweeps.journal import ATTEMPT, DEVICE, ERROR, FOLDER, SECONDS, current, open_study, read_identity

if TYPE_CHECKING:
    from optuna import Study

REPEATING = ("seed", "task.fold")  # parameters that repeat one configuration
STATES = {"COMPLETE": "finished", "PRUNED": "pruned", "FAIL": "failed", "WAITING": "queued"}


@dataclass(frozen=True)
class TrialRow:
    """One trial: its parameters, how it ended, its score (of a pruned one the last), and the folder of its run."""

    number: int
    params: dict[str, Any]
    state: str  # finished, pruned, failed, running, stopped, queued
    score: float | None
    seconds: float | None
    attempt: int
    run: str
    error: str
    device: str = ""  # of the trials of a pool


@dataclass(frozen=True)
class SweepResults:
    """A sweep's trials in order of their numbers, and the study that they are from."""

    folder: Path
    name: str
    keys: list[str]
    objective: str
    maximize: bool
    rows: list[TrialRow]
    study: "Study"

    @property
    def finished(self) -> list[TrialRow]:
        return [row for row in self.rows if row.state == "finished"]

    @property
    def best(self) -> TrialRow | None:
        """Of equal scores the earliest."""
        return max(self.finished, key=self._rank, default=None)

    def _rank(self, row: TrialRow) -> tuple[float, int]:
        score = row.score or 0.0
        return (score if self.maximize else -score, -row.number)


@dataclass(frozen=True)
class Configuration:
    """Finished trials that differ in seed or fold alone."""

    params: dict[str, Any]
    scores: list[float]

    @property
    def mean(self) -> float:
        return statistics.fmean(self.scores)

    @property
    def deviation(self) -> float | None:
        """Standard deviation of the sample; None for one score."""
        return statistics.stdev(self.scores) if len(self.scores) > 1 else None


def read_results(folder: Path) -> SweepResults:
    """Raises ConfigurationError where the folder is no sweep's, or its journal cannot be read."""
    identity, study = read_identity(folder), open_study(folder)
    rows = []
    for trial in current(study.get_trials(deepcopy=False)):
        attrs, state = trial.user_attrs, STATES.get(trial.state.name)
        if state is None:
            state = "running" if is_in_use(folder / "trials" / f"{trial.number:04d}") else "stopped"
        score = trial.value
        rows.append(
            TrialRow(
                trial.number,
                dict(trial.params),
                state,
                score,
                attrs.get(SECONDS),
                attrs.get(ATTEMPT, 1),
                attrs.get(FOLDER, ""),
                attrs.get(ERROR, "") if state == "failed" else "",
                attrs.get(DEVICE, ""),
            )
        )
    return SweepResults(
        folder,
        str(identity.get("name", study.study_name)),
        list(identity["space"]),
        str(identity.get("objective", "val/score")),
        study.direction.name == "MAXIMIZE",
        rows,
        study,
    )


def configurations(results: SweepResults) -> list[Configuration]:
    """Finished trials by all parameters but seed and fold, the best mean first; [] where neither is a parameter."""
    if not any(key in REPEATING for key in results.keys):
        return []
    scores: dict[tuple[tuple[str, Any], ...], list[float]] = defaultdict(list)
    for row in results.finished:
        if row.score is not None:
            scores[tuple((key, row.params.get(key)) for key in results.keys if key not in REPEATING)].append(row.score)
    groups = [Configuration(dict(params), values) for params, values in scores.items()]
    return sorted(groups, key=lambda each: -each.mean if results.maximize else each.mean)


def importances(results: SweepResults, keys: Sequence[str]) -> dict[str, float]:
    """How much each parameter decides whether a trial is among the better ones (PED-ANOVA, arXiv 2304.10255), largest first.

    {} for fewer than four finished trials, or where all scores are equal: nothing can be said.
    """
    scores = {row.score for row in results.finished}
    variable = [key for key in keys if len({str(row.params.get(key)) for row in results.finished}) > 1]
    if len(results.finished) < 4 or len(scores) < 2 or not variable:
        return {}
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances  # slow to import

    return get_param_importances(results.study, evaluator=PedAnovaImportanceEvaluator(), params=variable)
