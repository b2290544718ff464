"""Metrics of a run as functions of its examples, from what its folder holds, for significance tests.

Metrics that are means over examples stand in `example_scores/`; the others are computed from `predictions/` again, and must give
the number of `result.json`.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from protoformer.errors import UserError
from protoformer.runs.reader import Record
from protoformer.scoring import squad
from protoformer.significance import class_metrics, metrics, translation_metrics
from protoformer.significance.metrics import Metric, value

Row = Mapping[str, Any]
Builder = Callable[[Sequence[Row], Mapping[str, Any]], Metric]  # of predictions and what is noted of their scores
LOG_LIKELIHOOD, TOKENS = "log_likelihood", "tokens"  # sums of each example, of which perplexity is made
CLUSTER = "cluster"  # of examples that depend on each other
TOLERANCE = 2e-3  # predictions are rounded


def example_metrics(record: Record, split: str, rows: Sequence[Row], scores: Sequence[Row] | None) -> dict[str, Metric]:
    """Name -> metric, for each metric of a split that can be computed example by example. Accuracy and the like first.

    Raises UserError where predictions and `result.json` disagree.
    """
    columns = (
        {name: [float(row[name]) for row in scores] for name in scores[0] if name not in ("id", CLUSTER)}
        if scores
        else {}
    )
    found: dict[str, Metric] = {}
    if LOG_LIKELIHOOD in columns:
        found["perplexity"] = metrics.perplexity(columns.pop(LOG_LIKELIHOOD), columns.pop(TOKENS))
    found |= {name: metrics.mean(column) for name, column in columns.items()}
    recorded = recorded_metrics(record, split)
    notes = (record.result or {}).get("notes", {}).get(_of_stage(split), {})
    for name in recorded.keys() & BUILDERS.keys() - found.keys():
        if all(row["label"] is not None for row in rows) and np.isfinite(recorded[name]):
            found[name] = BUILDERS[name](rows, notes)
            scale = 100 if recorded[name] > 1 else 1  # BLEU may be recorded as papers print it
            if abs(scale * value(found[name]) - recorded[name]) > TOLERANCE * scale:
                raise UserError(
                    f"{record.folder}: predictions/{split}.jsonl has {name} {scale * value(found[name]):.4f}, result.json "
                    f"{recorded[name]:.4f}: one of the two is not this run's"
                )
    return {
        name: found[name]
        for name in sorted(found, key=lambda name: list(recorded).index(name) if name in recorded else 0)
    }


def recorded_metrics(record: Record, split: str) -> dict[str, float]:
    """The metrics of a split in `result.json`, by name."""
    prefix = f"{_of_stage(split)}/"
    found = (record.result or {}).get("metrics", {})
    return {name.removeprefix(prefix): number for name, number in found.items() if name.startswith(prefix)}


def _of_stage(split: str) -> str:
    """`val/matched` of `val_matched`, as result.json has it."""
    return split.replace("_", "/", 1)


def clusters(scores: Sequence[Row] | None, rows: Sequence[Row], column: str | None) -> np.ndarray | None:
    """Number of each example's cluster: by a column of the texts beside the predictions, or as the run recorded it.

    Raises UserError for a column that is not there.
    """
    if column is not None:
        values = [row.get(column, row.get("texts", {}).get(column)) for row in rows]
        if None in values:
            known = sorted({*rows[0], *rows[0].get("texts", {})} - {"texts", "probabilities", "id", "prediction"})
            raise UserError(f"--clusters {column}: no such column beside the predictions; there are {', '.join(known)}")
        return np.unique([str(each) for each in values], return_inverse=True)[1]
    if scores and CLUSTER in scores[0]:
        return np.asarray([row[CLUSTER] for row in scores])
    return None


def _labels(rows: Sequence[Row]) -> tuple[list[int], list[int], int]:
    """Predicted and reference labels as numbers, in the order of the task's labels, and their number."""
    order = {str(label): number for number, label in enumerate(rows[0]["probabilities"])}
    return [order[str(row["prediction"])] for row in rows], [order[str(row["label"])] for row in rows], len(order)


def _of_classes(
    name: class_metrics.Name, average: class_metrics.Average, rows: Sequence[Row], notes: Mapping[str, Any]
) -> Metric:
    return class_metrics.of_classes(name, average, *_labels(rows))


def _matthews(rows: Sequence[Row], notes: Mapping[str, Any]) -> Metric:
    return class_metrics.matthews(*_labels(rows))


def _auroc(rows: Sequence[Row], notes: Mapping[str, Any]) -> Metric:
    _, references, number = _labels(rows)
    if number != 2:
        raise UserError("auroc of more than two labels cannot be compared")
    second = list(rows[0]["probabilities"])[1]
    return class_metrics.Auroc(
        np.asarray([row["probabilities"][second] for row in rows]), np.asarray(references, dtype=float)
    )


def _numbers(rows: Sequence[Row]) -> tuple[np.ndarray, np.ndarray]:
    return tuple(np.asarray([float(row[key]) for row in rows]) for key in ("prediction", "label"))  # type: ignore[return-value]


def _pearson(rows: Sequence[Row], notes: Mapping[str, Any]) -> Metric:
    return metrics.pearson(*_numbers(rows))


def _spearman(rows: Sequence[Row], notes: Mapping[str, Any]) -> Metric:
    return metrics.Spearman(*_numbers(rows))


def _texts(rows: Sequence[Row]) -> tuple[list[str], list[str]]:
    return [str(row["prediction"]) for row in rows], [str(row["label"]) for row in rows]


def _bleu(rows: Sequence[Row], notes: Mapping[str, Any]) -> Metric:
    """By the tokenizer of the signature that the run wrote down."""
    parts = str(notes.get("bleu", "")).split("|")
    tokenizer = next((part.partition(":")[2] for part in parts if part.startswith("tok:")), None)
    return translation_metrics.bleu(*_texts(rows), tokenizer)


def _chrf(rows: Sequence[Row], notes: Mapping[str, Any]) -> Metric:
    return translation_metrics.chrf(*_texts(rows))


BUILDERS: Mapping[str, Builder] = {
    **{
        f"{name}{suffix}": partial(_of_classes, name, average)
        for name in ("f1", "precision", "recall")
        for suffix, average in (("", "binary"), ("_macro", "macro"), ("_weighted", "weighted"))
    },
    "matthews_correlation": _matthews,
    "auroc": _auroc,
    "pearson": _pearson,
    "spearman": _spearman,
    "bleu": _bleu,
    "chrf": _chrf,
}


def scores_of_predictions(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Example scores of runs from versions that did not write them.

    Question answering is recognised by lists of references, classification by probabilities; other kinds have none.
    """
    if all(isinstance(row["label"], list) for row in rows):
        return [
            {
                "id": row["id"],
                "exact_match": squad.exact_match(row["prediction"], row["label"]),
                "f1": squad.f1(row["prediction"], row["label"]),
            }
            for row in rows
        ]
    if all("probabilities" in row for row in rows):
        return [{"id": row["id"], "accuracy": float(row["prediction"] == row["label"])} for row in rows]
    return []
