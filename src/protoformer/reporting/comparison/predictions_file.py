"""Predictions of another system: a file in the form of a run's own `predictions/SPLIT.jsonl`.

The examples, the task's labels, and the names and settings of its metrics are those of the runs that it is compared with.
"""

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np

from protoformer.errors import UserError
from protoformer.reporting.comparison.examples import Examples, Predictions, Row
from protoformer.runs import reader
from protoformer.runs.predictions import CLUSTER, SUMS
from protoformer.scoring import squad

SUFFIX = ".jsonl"
ROUNDED = 1e-4  # labels that are numbers have four digits in the predictions of a run
PROBABILITY_SUM = 0.01  # how far from 1 the probabilities of an example may be in sum
LISTED = 8  # labels that an error names


def read(file: Path, runs: Sequence[Examples]) -> Examples:
    """The examples of the runs with the file's predictions.

    Raises UserError, with file and line, for lines that are no JSON, ids that are missing, repeated or of no example, labels
    that are not the runs', and predictions that are none of the task; and where the runs' labels are hidden.
    """
    reference = runs[0]
    if not reference.are_labelled:
        what = (
            "no labels, and a file of predictions does not hold the log-likelihoods that language models are compared by"
            if not reference.has_labels
            else "hidden labels, so that predictions cannot be scored"
        )
        raise UserError(f"{file}: {reference.split} of {reference.source} has {what}")
    own = {row["id"]: row for row in reference.rows}
    joined: dict[int, Row] = {}
    for number, row in _lines(file):
        try:
            name = _id(row, own, joined)
            joined[name] = _joined(row, own[name], reference.predictions.labels)
        except ValueError as error:
            raise UserError(f"{file}, line {number}: {error}") from error
    missing = [name for name in own if name not in joined]
    if missing:
        others = f" and {len(missing) - 1:,} others" if len(missing) > 1 else ""
        raise UserError(f"{file}: no prediction of id {missing[0]}{others} of {reference.source}")
    rows = [joined[name] for name in own]
    scored = [row for row in rows if "probabilities" in row]
    if len(scored) not in (0, len(rows)):
        raise UserError(f"{file}: {len(scored):,} of {len(rows):,} examples have probabilities: all of them, or none")
    return replace(
        reference,
        source=file,
        predictions=Predictions(rows, reference.predictions.notes, reference.predictions.labels),
        scores=_scores(rows, runs),
        metrics=dict.fromkeys(reference.metrics),
        of_file=True,
    )


def _lines(file: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """The objects of a JSON Lines file with their line numbers."""
    try:
        lines = file.read_bytes().rstrip().split(b"\n")
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror}") from error
    for number, line in enumerate(lines, start=1):
        if lines == [b""]:
            return
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{file}, line {number}: no JSON ({error})") from error
        if not isinstance(row, dict):
            raise UserError(f'{file}, line {number}: no object like {{"id": 0, "prediction": ...}}')
        yield number, row


def _id(row: Mapping[str, Any], own: Mapping[int, Row], joined: Mapping[int, Row]) -> int:
    """The id of a line. Raises ValueError for one that is missing, is of no example, or was on a line before."""
    name = row.get("id")
    if type(name) is not int:
        raise ValueError(
            f"id {_shown(name)}: the number of the example in its split, from 0" if "id" in row else "no id"
        )
    if name not in own:
        raise ValueError(f"id {name} is none of the runs' {len(own):,} examples, {min(own)} to {max(own)}")
    if name in joined:
        raise ValueError(f"id {name} is on a line before, too")
    return name


def _joined(row: Mapping[str, Any], own: Row, labels: Sequence[str] | None) -> Row:
    """The run's row with another prediction. Raises ValueError for what does not fit it."""
    if "prediction" not in row:
        raise ValueError("no prediction")
    label = row.get("label")
    if label is not None and not _same_label(label, own["label"]):
        raise ValueError(f"id {own['id']} has the label {_shown(label)}, that of the runs is {_shown(own['label'])}")
    joined = {name: value for name, value in own.items() if name not in ("probabilities", "log_probs")}
    joined["prediction"] = _prediction(row["prediction"], own, labels)
    if "probabilities" in own and row.get("probabilities") is not None:
        joined["probabilities"] = _probabilities(row["probabilities"], list(own["probabilities"]))
    return joined


def _same_label(given: object, own: object) -> bool:
    if _is_number(own):
        return _is_number(given) and abs(float(given) - float(own)) <= ROUNDED  # type: ignore[arg-type]
    if isinstance(own, list):
        return set(map(str, given if isinstance(given, list) else [given])) == set(map(str, own))
    return str(given).strip() == str(own).strip()


def _prediction(given: object, own: Row, labels: Sequence[str] | None) -> object:
    """A prediction in the form that the runs' have: a label, one of an example's choices, a number, or a text."""
    if options := labels or _choices(own):
        text = str(given).strip()
        if text not in options:
            rest = f" and {len(options) - LISTED:,} others" if len(options) > LISTED else ""
            raise ValueError(f"prediction {_shown(given)} is none of {', '.join(options[:LISTED])}{rest}")
        return text
    if _is_number(own["label"]):
        if not _is_number(given):
            raise ValueError(f"prediction {_shown(given)} is no finite number")
        return float(given)  # type: ignore[arg-type]
    is_completion = "log_probs" in own  # null: another one than the label
    if isinstance(own["prediction"], str) and not isinstance(given, str) and not (given is None and is_completion):
        raise ValueError(f"prediction {_shown(given)} is no text")
    return given


def _choices(own: Row) -> list[str]:
    """The completions that an example in context is answered by; empty where there are none to choose from."""
    completions = (own.get("texts") or {}).get("completions") or ()
    return [str(text).strip() for text in completions] if len(own.get("log_probs") or ()) > 1 else []


def _probabilities(given: object, labels: Sequence[str]) -> dict[str, float]:
    if not isinstance(given, dict):
        raise ValueError(
            f"probabilities {_shown(given)}: a number by label, such as {json.dumps({labels[0]: 0.9})}, is read"
        )
    if set(given) != set(labels):
        raise ValueError(f"probabilities of other labels than {', '.join(labels[:LISTED])}")
    numbers = list(given.values())
    if not all(_is_number(number) and 0 <= number <= 1 for number in numbers):
        raise ValueError("probabilities that are no numbers from 0 to 1")
    if abs(sum(numbers) - 1) > PROBABILITY_SUM:
        raise ValueError(f"probabilities that are {sum(numbers):.3f} in sum")
    return {label: float(given[label]) for label in labels}


def _scores(rows: Sequence[Row], runs: Sequence[Examples]) -> list[Row]:
    """Example scores of predictions: those whose function of prediction and label gives what every run recorded, and of
    regressions the numbers."""
    functions: dict[str, Callable[[Row], float]] = {}
    names = list(runs[0].metrics) + reader.score_names(runs[0].scores)
    for name in dict.fromkeys(names):
        function = _function(name, functions, runs)
        if function is not None and all(_recorded(name, function, run) for run in runs):
            functions[name] = function
    lines: list[Row] = []
    for row, own in zip(rows, runs[0].scores, strict=True) if runs[0].scores else ():
        line = {"id": row["id"], **{name: function(row) for name, function in functions.items()}}
        if CLUSTER in own:
            line[CLUSTER] = own[CLUSTER]
        if "reference" in own.get(SUMS, ()):
            line[SUMS] = {"prediction": row["prediction"], "reference": own[SUMS]["reference"]}
        lines.append(line)
    return lines


def _function(name: str, functions: Mapping[str, object], runs: Sequence[Examples]) -> Callable[[Row], float] | None:
    """The function of prediction and label that a metric with this name is."""
    if all(isinstance(row["label"], list) for row in runs[0].rows):
        return {"exact_match": _exact_match, "f1": _f1}.get(name)
    # choices have an accuracy by each normalisation of their log-likelihoods: the first is what they are predicted by
    if any(each.startswith("accuracy") for each in functions):
        return None
    several_are_right = "exact_match" in reader.score_names(runs[0].scores)
    return _accuracy if name.startswith("accuracy") and not several_are_right else None


def _recorded(name: str, function: Callable[[Row], float], run: Examples) -> bool:
    return name in reader.score_names(run.scores) and np.allclose(
        [function(row) for row in run.rows], run.column(name), atol=1e-6
    )


def _accuracy(row: Row) -> float:
    return float(str(row["prediction"]).strip() == str(row["label"]).strip())


def _exact_match(row: Row) -> float:
    return squad.exact_match(row["prediction"], row["label"])


def _f1(row: Row) -> float:
    return squad.f1(row["prediction"], row["label"])


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def _shown(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else text[:77] + "..."
