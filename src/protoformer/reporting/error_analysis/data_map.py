"""Data map of a classification run: easy, hard and ambiguous training examples (Swayamdipta et al. 2020, arXiv 2009.10795).

By the probability that the model gives an example's label after each epoch:

    confidence     its mean over epochs
    variability    its standard deviation over epochs (divided by their number, as in the paper)
    correctness    the fraction of epochs after which the label is the most probable one

Examples of low confidence and low variability are often labelled wrongly (section 5). The candidates for label errors are those
of the least confidence + variability.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from protoformer.reporting.tables import markdown_table
from protoformer.runs import reader
from protoformer.views import data_map

FILE, CANDIDATES, LONGEST_TEXT = "data_map.jsonl", 20, 300  # the last in characters


@dataclass(frozen=True)
class DataMap:
    """Confidence, variability and correctness of each example, from 0 to 1."""

    confidence: Float[ndarray, "examples"]
    variability: Float[ndarray, "examples"]
    correctness: Float[ndarray, "examples"]

    @classmethod
    def of(cls, probabilities: Float[ndarray, "epochs examples"], right: ndarray) -> "DataMap":
        """`right` says of each epoch and example whether the label is the most probable one."""
        return cls(probabilities.mean(axis=0), probabilities.std(axis=0), right.mean(axis=0))

    def label_errors(self, number: int = CANDIDATES) -> list[int]:
        """Positions of the examples whose labels are most likely wrong, most likely first; of those that the model preferred
        another label to after one epoch at least."""
        order = np.argsort(self.confidence + self.variability, kind="stable")
        return [int(index) for index in order if self.correctness[index] < 1][:number]


def section(folder: Path) -> str:
    """The card's section; writes data_map.svg. Empty where the run has recorded none."""
    file = folder / FILE
    if not file.exists():
        return ""
    if not (rows := reader.read_predictions(file)):
        return ""
    epochs = len(_numbers(rows[0]))
    probabilities = np.array([_numbers(row) for row in rows]).T
    right = np.array([[name == row["label"] for name in row["predictions"]] for row in rows]).T  # type: ignore[attr-defined]
    mapped = DataMap.of(probabilities, right)
    data_map.draw(folder / "data_map.svg", mapped.confidence, mapped.variability, mapped.correctness)
    parts = [
        "## Data map",
        f"{len(rows):,} training examples by the probability of their label after each of {epochs} epochs, without dropout "
        "(arXiv 2009.10795). Confidence: its mean. Variability: its standard deviation. Times 100, as is correctness, the part "
        "of the epochs after which the label is the most probable one.",
        _of_one_epoch(epochs),
        "![Confidence over variability of each training example, and how many have each](data_map.svg)",
        _regions(mapped),
        _candidates(rows, mapped),
    ]
    return "\n\n".join(part for part in parts if part)


def _numbers(row: Mapping[str, Any]) -> list[float]:
    return [float(value) for value in row["probabilities"]]


def _of_one_epoch(epochs: int) -> str:
    return "After one epoch alone every variability is 0: a data map needs several." if epochs == 1 else ""


def _regions(mapped: DataMap) -> str:
    """The thirds of most confidence, least confidence and most variability (section 3 of the paper)."""
    third = max(1, round(len(mapped.confidence) / 3))
    by_confidence = np.argsort(-mapped.confidence, kind="stable")
    regions = {
        "all": by_confidence,
        "easy: the third of most confidence": by_confidence[:third],
        "hard: the third of least confidence": by_confidence[-third:],
        "ambiguous: the third of most variability": np.argsort(-mapped.variability, kind="stable")[:third],
        "never predicted right": np.flatnonzero(mapped.correctness == 0),
    }
    heads = ("training examples", "number", "confidence", "variability", "correctness")
    lines = [
        (
            name,
            f"{len(members):,}",
            *(
                f"{100 * column[members].mean():.2f}" if len(members) else "-"
                for column in (mapped.confidence, mapped.variability, mapped.correctness)
            ),
        )
        for name, members in regions.items()
    ]
    return markdown_table(heads, lines, right=heads[1:])


def _candidates(rows: Sequence[Mapping[str, Any]], mapped: DataMap) -> str:
    indices = mapped.label_errors()
    if not indices:
        return "Every label was the most probable one after each epoch: there are no candidates for label errors."
    has_locations = all("location" in rows[index] for index in indices)
    heads = (
        "row",
        *(["location"] if has_locations else []),
        "label",
        "last prediction",
        "confidence",
        "variability",
        "correctness",
        "text",
    )
    lines = [
        (
            rows[index]["id"],
            *([rows[index]["location"]] if has_locations else []),
            rows[index]["label"],
            rows[index]["predictions"][-1],
            *(f"{100 * column[index]:.2f}" for column in (mapped.confidence, mapped.variability, mapped.correctness)),
            _text(rows[index].get("texts") or {}),
        )
        for index in indices
    ]
    return (
        f"### Most likely label errors\n\nThe {len(indices)} examples of the least confidence + variability, by their row in "
        "what is trained on, from 0. Some are right and hard: read them before you change a label.\n\n"
        + markdown_table(heads, lines, right=("row", "confidence", "variability", "correctness"))
    )


def _text(texts: Mapping[str, Any]) -> str:
    """The texts of an example, apart by a bar, each cut to LONGEST_TEXT characters."""
    return " | ".join(
        text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]}..." for text in map(str, texts.values())
    )
