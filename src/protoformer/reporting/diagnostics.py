"""Signs that a run failed although it ended.

Fine-tuning a large model on a small set fails now and then: it learns nothing and gives every row the same answer
(arXiv 1810.04805, section 4.1, restarts for this reason). Such a run has a result like any other, and lowers a mean.
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
ONE_NUMBER = 0.01  # predicted numbers that differ by less are one answer
FALL = 0.98  # a training loss that ends above this share of its start did not fall
POINTS = 8  # fewer points of the training loss say nothing


def failure_signs(record: reader.Record) -> list[str]:
    """What speaks against a finished run, in words; none for a sound one. A file that is broken is a RunFolderError."""
    free_text = record.result is not None and record.result["task_type"]["free_text"]
    found = [
        sign
        for file in sorted((record.folder / "predictions").glob("val*.jsonl"))
        if (sign := _of_predictions(reader.read_predictions(file), file.stem, free_text)) is not None
    ]
    metrics: Mapping[str, Any] = (record.result or {}).get("metrics") or {}
    if not found:
        found += [
            f"{key} is {'undefined' if math.isnan(value) else 'not above 0'}"
            for key, value in metrics.items()
            if key.startswith("val/") and key.endswith(CORRELATIONS) and not value > 0
        ]
    stuck = _of_losses(record.folder / "metrics.jsonl")
    return found if stuck is None else [*found, stuck]


def _of_predictions(rows: Sequence[Mapping[str, Any]], name: str, free_text: bool) -> str | None:
    answers = [row["prediction"] for row in rows]
    if len(answers) < 2:
        return None
    if all(isinstance(answer, int | float) for answer in answers):
        one = max(answers) - min(answers) < ONE_NUMBER
        return f"the same number for every row of {name}" if one else None
    if len(set(answers)) == 1:
        what = "label" if not free_text and not any(isinstance(row.get("label"), list) for row in rows) else "text"
        return f"the same {what} for every row of {name}: {answers[0] or '(empty)'}"
    labelled = [row for row in rows if row.get("label") is not None]
    if free_text or not labelled:
        return None
    if all(isinstance(row["label"], list) for row in labelled):  # gold answers, any of which is right; none is frequent
        found = any(squad.exact_match(row["prediction"], row["label"]) for row in labelled)
        return None if found else f"no row of {name} is right"
    right = sum(row["prediction"] == row["label"] for row in labelled)
    label, most = Counter(row["label"] for row in labelled).most_common(1)[0]
    if right <= most:
        return f"no better on {name} than always {label} ({right} against {most} of {len(labelled)} rows right)"
    return None


def _of_losses(metrics_file: Path) -> str | None:
    if not metrics_file.exists():
        return None
    _, losses = read_curves(metrics_file).get("train/loss", ([], []))
    if any(not math.isfinite(loss) for loss in losses):
        return "the training loss is not a number"
    if len(losses) < POINTS:
        return None
    quarter = len(losses) // 4
    start, end = sum(losses[:quarter]) / quarter, sum(losses[-quarter:]) / quarter
    return f"the training loss did not fall ({start:.3f} to {end:.3f})" if start > 0 and end > FALL * start else None
