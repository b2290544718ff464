"""Examples of a run's split, and whether two runs have the same ones."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int
from numpy import ndarray

from protoformer.errors import UserError
from protoformer.runs import reader
from protoformer.runs.predictions import CLUSTER, SUMS
from protoformer.runs.reader import Record
from protoformer.scoring import squad

Row = Mapping[str, Any]
ROLES = {"val": "validation", "test": "test"}  # stage -> role of its table


@dataclass(frozen=True)
class Examples:
    """Of one run and split the `rows` of predictions, each with its label or None, and the recorded `scores`, empty where there
    are none. Examples are the scores' where both differ: a language model predicts samples, and is scored on blocks."""

    record: Record
    split: str
    rows: Sequence[Row]
    scores: Sequence[Row]

    @property
    def are_labelled(self) -> bool:
        return bool(self.rows) and all(row["label"] is not None for row in self.rows)

    @property
    def stage(self) -> str:
        """`val/matched` of `val_matched`, as result.json has it."""
        return self.split.replace("_", "/", 1)

    @property
    def recorded_metrics(self) -> dict[str, float]:
        """The metrics of the split in `result.json`, by name."""
        prefix = f"{self.stage}/"
        metrics = (self.record.result or {}).get("metrics", {})
        return {name.removeprefix(prefix): number for name, number in metrics.items() if name.startswith(prefix)}

    def column(self, name: str) -> list[float]:
        return [float(row[name]) for row in self.scores]

    def sums(self) -> dict[str, list[float]]:
        names = self.scores[0].get(SUMS, ()) if self.scores else ()
        return {name: [float(row[SUMS][name]) for row in self.scores] for name in names}

    def identity(self) -> list[object]:
        """What two runs must have in common: ids, labels and texts; of a language model the data and the tokens of a block."""
        if not self.are_labelled:
            stage, _, name = self.stage.partition("/")
            role = "/".join(filter(None, (ROLES.get(stage, stage), name)))
            data = ((self.record.result or {}).get("digests") or {}).get("data") or {}
            tokens = [(name, column) for name, column in self.sums().items() if name.endswith("tokens")]
            return [data.get(role), [row["id"] for row in self.scores], tokens]
        # prompts differ between the templates of in-context learning, which are what is compared
        texts = [None if "prompt" in row else row.get("texts") for row in self.rows]
        digest = hashlib.sha256(repr(texts).encode()).hexdigest() if all(texts) else None
        return [[(row["id"], row["label"]) for row in self.rows], digest]

    def clusters(self, column: str | None) -> Int[ndarray, "examples"] | None:
        """Number of each example's cluster: by a column of the texts beside the predictions, as the run recorded it, or by the
        passage of a run of an earlier version; None where every example is its own.

        Raises UserError for a column that is not there.
        """
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
            passage = ((self.record.config.get("task") or {}).get("rows") or {}).get("context", "context")
            values = [(row.get("texts") or {}).get(passage) for row in self.rows]
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
    examples = Examples(record, split, rows, scores or ())
    if not examples.are_labelled:
        return examples
    if scores is not None and [row["id"] for row in scores] != [row["id"] for row in rows]:
        raise UserError(
            f"{record.folder}: example_scores/{split}.jsonl does not have the rows of predictions/{split}.jsonl"
        )
    return examples if scores is not None else Examples(record, split, rows, _scores_of_predictions(rows))


def check_same(examples: Sequence[Examples]) -> None:
    """Raises UserError where the runs' examples are not the same ones."""
    first = examples[0]
    expected = first.identity()
    for each in examples[1:]:
        actual = each.identity()
        if actual == expected or (each.are_labelled and first.are_labelled and _without_texts(actual, expected)):
            continue
        ours, theirs = (len(run.rows if run.are_labelled else run.scores) for run in (each, first))
        what = f"{ours:,} and {theirs:,} examples" if ours != theirs else "other texts, labels or tokens"
        raise UserError(
            f"{each.record.folder} and {first.record.folder} did not predict the same rows of {each.split}: {what}"
        )


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
