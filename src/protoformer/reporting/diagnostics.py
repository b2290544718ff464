"""Detection of degenerate runs: runs that finished but learnt nothing.

Fine-tuning a large model on a small data set sometimes fails: every example gets the same class (BERT, arXiv
1810.04805, section 4.1, uses random restarts for this reason). Such a run has a result like any other and lowers the mean.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from protoformer.runs import reader
from protoformer.runs.metrics import read_curves
from protoformer.scoring import squad

CORRELATIONS = ("matthews_correlation", "pearson", "spearman")
MIN_RANGE = 0.01  # predicted numbers within a smaller range count as constant
MAX_LOSS_RATIO = 0.98  # final over initial training loss; above it the loss did not fall
MIN_LOSS_POINTS = 8  # with fewer logged losses nothing is concluded


def find_problems(record: reader.Record) -> list[str]:
    """Descriptions of what is wrong with a finished run; empty for a sound one. Raises RunFolderError for a corrupt file."""
    free_text = record.result is not None and record.result["task_type"]["free_text"]
    problems = [
        problem
        for file in sorted((record.folder / "predictions").glob("val*.jsonl"))
        if (problem := _prediction_problem(reader.read_predictions(file), file.stem, free_text)) is not None
    ]
    metrics: Mapping[str, Any] = (record.result or {}).get("metrics") or {}
    if not problems:
        problems += [
            f"{key} is {'undefined' if math.isnan(value) else 'not above 0'}"
            for key, value in metrics.items()
            if key.startswith("val/") and key.endswith(CORRELATIONS) and not value > 0
        ]
    loss_problem = _loss_problem(record.folder / "metrics.jsonl")
    return problems if loss_problem is None else [*problems, loss_problem]


def _prediction_problem(rows: Sequence[Mapping[str, Any]], name: str, free_text: bool) -> str | None:
    answers = [row["prediction"] for row in rows]
    if len(answers) < 2:
        return None
    if all(isinstance(answer, int | float) for answer in answers):
        constant = max(answers) - min(answers) < MIN_RANGE
        return f"the same number for every row of {name}" if constant else None
    if all(answer is None for answer in answers):  # completions, of which greedy decoding writes none
        return f"no row of {name} is correct"
    if len(set(answers)) == 1:
        if all(row.get("label") == answers[0] for row in rows):
            return f"every row of {name} has the label {answers[0]}: its scores tell nothing"
        what = "label" if not free_text and not any(isinstance(row.get("label"), list) for row in rows) else "text"
        return f"the same {what} for every row of {name}: {answers[0] or '(empty)'}"
    labelled = [row for row in rows if row.get("label") is not None]
    if free_text or not labelled:
        return None
    if all(
        isinstance(row["label"], list) for row in labelled
    ):  # several gold answers per row; there is no majority answer
        any_correct = any(squad.exact_match(row["prediction"], row["label"]) for row in labelled)
        return None if any_correct else f"no row of {name} is correct"
    correct = sum(row["prediction"] == row["label"] for row in labelled)
    label, majority = Counter(row["label"] for row in labelled).most_common(1)[0]
    if correct <= majority:
        return f"no better on {name} than always {label} ({correct} against {majority} of {len(labelled)} rows correct)"
    return None


def _loss_problem(metrics_file: Path) -> str | None:
    if not metrics_file.exists():
        return None
    _, losses = read_curves(metrics_file).get("train/loss", ([], []))
    if any(not math.isfinite(loss) for loss in losses):
        return "the training loss is not a number"
    if len(losses) < MIN_LOSS_POINTS:
        return None
    quarter = len(losses) // 4
    start, end = sum(losses[:quarter]) / quarter, sum(losses[-quarter:]) / quarter
    return (
        f"the training loss did not fall ({start:.3f} to {end:.3f})"
        if start > 0 and end > MAX_LOSS_RATIO * start
        else None
    )
