"""Significance test of the difference between two groups of runs: paired bootstrap over examples.

Reads the recorded scores of each example; no model is evaluated. The runs of a group differ in their seeds.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from protoformer.errors import UserError
from protoformer.reporting.tables import print_table
from protoformer.runs import reader
from protoformer.scoring import squad
from protoformer.scoring.bootstrap import Difference, paired_bootstrap

Row = Mapping[str, Any]
COMPARABLE = (
    "comparable are runs of classification, multiple choice and question answering whose labels are known; "
    "protoformer report lists the scores of any runs side by side"
)


class Comparison(NamedTuple):
    """One metric on one split: the value of each run, and the difference of the groups' means."""

    split: str
    metric: str
    examples: int
    ours: list[float]
    theirs: list[float]
    difference: Difference


def main(ours: Sequence[str], theirs: Sequence[str], resamples: int = 10_000) -> None:
    """Print the comparison, with metrics times 100 as in papers."""
    if resamples < 1:
        raise UserError(f"--resamples {resamples}: at least one")
    comparisons = compare([Path(run) for run in ours], [Path(run) for run in theirs], resamples)
    rows = [
        (
            each.split,
            each.metric,
            f"{each.examples:,}",
            _mean(each.ours),
            _mean(each.theirs),
            f"{100 * each.difference.mean:+.2f}",
            f"{100 * each.difference.low:+.2f} to {100 * each.difference.high:+.2f}",
            ("better" if each.difference.mean > 0 else "worse")
            if each.difference.is_sure
            else "no difference is shown",
        )
        for each in comparisons
    ]
    print_table(("split", "metric", "examples", "these runs", "with", "difference", "95 % interval", ""), rows)
    print(f"paired bootstrap over examples, {resamples:,} resamples; runs of a group are averaged for each example")


def compare(ours: Sequence[Path], theirs: Sequence[Path], resamples: int = 10_000) -> list[Comparison]:
    """Compare two groups of runs on each split with predictions of all runs and known labels.

    Raises UserError for runs of different tasks, unfinished runs, different examples, or metrics that are not means.
    """
    if both := sorted({str(run) for run in ours if run.resolve() in {other.resolve() for other in theirs}}):
        raise UserError(f"{both[0]} is on both sides")
    sides = [[reader.read(run) for run in side] for side in (ours, theirs)]
    everyone = [record for side in sides for record in side]
    for record in everyone:
        if record.result is None:
            raise UserError(f"{record.folder} is not finished: the same command continues it")
    if len(tasks := sorted({record.task for record in everyone})) > 1:
        raise UserError(f"runs of different tasks cannot be compared: {', '.join(tasks)}")
    comparisons, labelled = [], False
    for name in sorted({file.stem for file in (everyone[0].folder / "predictions").glob("*.jsonl")}):
        rows = [[_rows(record.folder / "predictions" / f"{name}.jsonl") for record in side] for side in sides]
        first = rows[0][0]
        if any(row["label"] is None for row in first):
            continue  # hidden labels
        labelled = True
        for record, each in zip(everyone, (each for side in rows for each in side), strict=True):
            if [(row["id"], row["label"]) for row in each] != [(row["id"], row["label"]) for row in first]:
                raise UserError(f"{record.folder} and {everyone[0].folder} did not predict the same rows of {name}")
        scores = [
            [_example_scores(record, name, each) for record, each in zip(records, side, strict=True)]
            for records, side in zip(sides, rows, strict=True)
        ]
        for metric in scores[0][0]:
            values = [np.asarray([run[metric] for run in side]) for side in scores]
            mine, others = (side.mean(axis=1).tolist() for side in values)
            difference = paired_bootstrap(*values, resamples=resamples)
            comparisons.append(Comparison(name, metric, len(first), mine, others, difference))
    if labelled and not comparisons:
        raise UserError(
            f"{tasks[0]}: its metrics are not means over examples, so they cannot be compared; {COMPARABLE}"
        )
    if not comparisons and not (everyone[0].result or {})["task_type"].get("has_labels", True):
        raise UserError(f"{tasks[0]}: its runs predict no labelled examples, so they cannot be compared; {COMPARABLE}")
    if not comparisons:
        raise UserError(f"{everyone[0].folder}/predictions: no split with known labels; {COMPARABLE}")
    return comparisons


def _example_scores(record: reader.Record, split: str, rows: Sequence[Row]) -> dict[str, list[float]]:
    """The score of each example by each metric that is a mean over examples. Older runs: computed from the predictions."""
    recorded = reader.read_example_scores(record.folder, split)
    scores = _scores_of_predictions(rows) if recorded is None else recorded
    if recorded is not None and [row["id"] for row in recorded] != [row["id"] for row in rows]:
        raise UserError(
            f"{record.folder}: example_scores/{split}.jsonl does not have the rows of predictions/{split}.jsonl"
        )
    metrics = [name for name in (scores[0] if scores else ()) if name != "id"]
    return {name: [float(row[name]) for row in scores] for name in metrics}


def _scores_of_predictions(rows: Sequence[Row]) -> list[dict[str, float]]:
    """Example scores of runs from versions that did not write them.

    Question answering is recognised by lists of references, classification by probabilities; other kinds have none.
    """
    if all(isinstance(row["label"], list) for row in rows):
        return [
            {
                "exact_match": squad.exact_match(row["prediction"], row["label"]),
                "f1": squad.f1(row["prediction"], row["label"]),
            }
            for row in rows
        ]
    if all("probabilities" in row for row in rows):
        return [{"accuracy": float(row["prediction"] == row["label"])} for row in rows]
    return []


def _rows(file: Path) -> list[dict[str, object]]:
    if not file.exists():
        raise UserError(f"{file} does not exist: this run did not predict that split")
    return [{"label": None, **row} for row in reader.read_predictions(file)]


def _mean(values: Sequence[float]) -> str:
    spread = f" ± {100 * np.std(values, ddof=1):.2f} (n = {len(values)})" if len(values) > 1 else ""
    return f"{100 * np.mean(values):.2f}{spread}"
