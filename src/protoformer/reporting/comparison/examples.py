"""Examples of a split as a run, or a file of predictions, has them, and whether two have the same ones."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int
from numpy import ndarray

from protoformer.errors import UserError
from protoformer.runs import reader
from protoformer.runs.predictions import CLUSTER, RATIOS, SUMS
from protoformer.runs.reader import Record
from protoformer.scoring import squad

Row = Mapping[str, Any]
ROLES = {"val": "validation", "test": "test"}  # stage -> role of its table


@dataclass(frozen=True)
class Predictions:
    """What metrics are computed from: predictions with their labels, and the notes on how the run's scores were computed.
    `labels` are those of the task in their order; None where there are none, or where each example has its own."""

    rows: Sequence[Row]
    notes: Mapping[str, str]
    labels: Sequence[str] | None

    @classmethod
    def of_rows(cls, rows: Sequence[Row], notes: Mapping[str, str]) -> "Predictions":
        """With the labels that the rows name beside their predictions."""
        first = rows[0] if rows else {}
        labels = list(first.get("probabilities") or (first.get("texts") or {}).get("completions") or ())
        if "probabilities" not in first and any((row.get("texts") or {}).get("completions") != labels for row in rows):
            return cls(rows, notes, None)
        return cls(rows, notes, [str(label).strip() for label in labels] or None)


@dataclass(frozen=True)
class Examples:
    """Of one split the predictions, each with its label or None, and the `scores` of examples, empty where there are none.
    Examples are the scores' where both differ: a language model predicts samples, and is scored on blocks.

    `source` is the run folder or the file that they were read from, `metrics` those that result.json has of the split (of a
    file the names alone), `data_digest` that of its data, and `passage` the name of the column of passages. `has_labels` says
    whether the kind of task has any."""

    source: Path
    split: str
    predictions: Predictions
    scores: Sequence[Row]
    metrics: Mapping[str, float | None]
    data_digest: str | None
    passage: str
    has_labels: bool
    of_file: bool = False

    @property
    def rows(self) -> Sequence[Row]:
        return self.predictions.rows

    @property
    def are_labelled(self) -> bool:
        return bool(self.rows) and all(row["label"] is not None for row in self.rows)

    def column(self, name: str) -> list[float]:
        return [float(row[name]) for row in self.scores]

    def sums(self) -> dict[str, list[float]]:
        names = self.scores[0].get(SUMS, ()) if self.scores else ()
        return {name: [float(row[SUMS][name]) for row in self.scores] for name in names}

    def ratios(self) -> dict[str, tuple[list[float], list[float]]]:
        """What each example adds to the two sums of metrics that are their ratio."""
        names = self.scores[0].get(RATIOS, ()) if self.scores else ()
        return {
            name: ([row[RATIOS][name][0] for row in self.scores], [row[RATIOS][name][1] for row in self.scores])
            for name in names
        }

    def identity(self) -> list[object]:
        """What two runs must have in common: ids, labels and texts; of a language model the data and the tokens of a block."""
        if not self.are_labelled:
            tokens = [(name, column) for name, column in self.sums().items() if name.endswith("tokens")]
            return [self.data_digest, [row["id"] for row in self.scores], tokens]
        # prompts differ between the templates of in-context learning, which are what is compared
        texts = [None if "prompt" in row else row.get("texts") for row in self.rows]
        digest = hashlib.sha256(repr(texts).encode()).hexdigest() if all(texts) else None
        return [[(row["id"], row["label"]) for row in self.rows], digest]

    def clusters(self, column: str | None) -> Int[ndarray, "examples"] | None:
        """Number of each example's cluster: by a column of the texts beside the predictions, as the run recorded it, or by the
        passage of a run of an earlier version; None where every example is its own.

        Raises UserError for a column that is not there.
        """
        if column is not None and not self.are_labelled:
            raise UserError(f"--clusters {column}: the examples of {self.source} are blocks of tokens, without columns")
        if column is not None:
            values = [row.get(column, (row.get("texts") or {}).get(column)) for row in self.rows]
            if not values or None in values:
                hidden = {"texts", "probabilities", "id", "prediction", "log_probs", "prompt"}
                known = sorted({key for row in self.rows[:1] for key in (*row, *(row.get("texts") or {}))} - hidden)
                raise UserError(
                    f"--clusters {column}: no such column beside the predictions; there are {', '.join(known) or 'none'}"
                )
        elif self.scores and CLUSTER in self.scores[0]:
            values = [row[CLUSTER] for row in self.scores]
        else:
            values = [(row.get("texts") or {}).get(self.passage) for row in self.rows]
            if "question" not in (self.rows[0] if self.rows else ()) or None in values:
                return None
        numbers: ndarray = np.unique([str(each) for each in values], return_inverse=True)[1]
        return numbers if numbers.max() + 1 < len(numbers) else None


def splits(record: Record) -> list[str]:
    """Names of the splits that a run has predictions or scores of, those of dev first."""
    folders = (record.folder / "predictions", record.folder / "example_scores")
    names = {file.stem for folder in folders for file in folder.glob("*.jsonl")}
    return sorted(names, key=lambda name: (not name.startswith("val"), name))


def read(record: Record, split: str) -> Examples:
    """Examples of a split. Raises UserError where the run has none of it, or where predictions and scores are of other rows."""
    file = record.folder / "predictions" / f"{split}.jsonl"
    scores = reader.read_example_scores(record.folder, split)
    if not file.exists() and scores is None:
        raise UserError(f"{file} does not exist: this run did not predict that split")
    rows: list[Row] = [{"label": None, **row} for row in reader.read_predictions(file)] if file.exists() else []
    examples = _examples(record, split, rows, scores or ())
    if not examples.are_labelled:
        return examples
    if scores is not None and [row["id"] for row in scores] != [row["id"] for row in rows]:
        raise UserError(
            f"{record.folder}: example_scores/{split}.jsonl does not have the rows of predictions/{split}.jsonl"
        )
    return examples if scores is not None else replace(examples, scores=_scores_of_predictions(rows))


def _examples(record: Record, split: str, rows: Sequence[Row], scores: Sequence[Row]) -> Examples:
    """With what result.json and config.yaml say of the split."""
    result = record.result or {}
    stage = split.replace("_", "/", 1)  # `val/matched` of `val_matched`, as result.json has it
    stage_name, _, split_name = stage.partition("/")
    role = "/".join(filter(None, (ROLES.get(stage_name, stage_name), split_name)))
    metrics = result.get("metrics", {})
    return Examples(
        source=record.folder,
        split=split,
        predictions=Predictions.of_rows(rows, (result.get("notes") or {}).get(stage, {})),
        scores=scores,
        metrics={
            name.removeprefix(f"{stage}/"): value for name, value in metrics.items() if name.startswith(f"{stage}/")
        },
        data_digest=((result.get("digests") or {}).get("data") or {}).get(role),
        passage=((record.config.get("task") or {}).get("rows") or {}).get("context", "context"),
        has_labels=(result.get("task_type") or {}).get("has_labels", True),  # results of earlier versions do not say
    )


def check_same(examples: Sequence[Examples]) -> None:
    """Raises UserError where the runs' examples are not the same ones, or their labels have another order."""
    first = examples[0]
    expected = first.identity()
    for each in examples[1:]:
        if bool(each.rows) != bool(first.rows):
            without, with_rows = (first, each) if each.rows else (each, first)
            raise UserError(f"{without.source} has no predictions/{each.split}.jsonl, as {with_rows.source} has")
        actual = each.identity()
        orders = [run.predictions.labels for run in (each, first)]
        if actual == expected and None not in orders and orders[0] != orders[1]:
            own, other = (", ".join(order or ()) for order in orders)
            raise UserError(
                f"{each.source} has the labels {own}, {first.source} {other}: F1 and precision are those of the second"
            )
        if actual == expected or (each.are_labelled and first.are_labelled and _without_texts(actual, expected)):
            continue
        ours, theirs = (len(run.rows if run.are_labelled else run.scores) for run in (each, first))
        what = f"{ours:,} and {theirs:,} examples" if ours != theirs else "other texts, labels or tokens"
        raise UserError(f"{each.source} and {first.source} did not predict the same rows of {each.split}: {what}")


def _without_texts(actual: Sequence[object], expected: Sequence[object]) -> bool:
    """Whether all but the texts agrees, where one of the two kept none."""
    return actual[0] == expected[0] and None in (actual[1], expected[1])


def _scores_of_predictions(rows: Sequence[Row]) -> list[Row]:
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
