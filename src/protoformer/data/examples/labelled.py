"""Rows of a data set -> canonical examples. What cannot be used is an error that names file, row and column."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from numpy import ndarray

from protoformer.data.examples.reading import Reading, _chosen
from protoformer.data.sources.source import RawTable, Role
from protoformer.errors import ConfigurationError


@dataclass(frozen=True)
class LabelledExamples:
    """Texts (or pairs) and their labels; `row` is each one's number in the file."""

    text_a: list[str]
    text_b: list[str] | None
    labels: ndarray
    row: ndarray
    skipped: int


@dataclass(frozen=True)
class LabelledTextReader:
    """A data set with one or two text columns and a label column.

    `labels` are the words of the integer labels, in order; None makes the label a number (regression). `symmetric`: the two
    texts may change places, and the label stays. Raises ConfigurationError where there are no two.
    """

    dataset: str
    text_a: str
    text_b: str | None = None
    label: str = "label"
    labels: Sequence[str] | None = None
    symmetric: bool = False
    subset: str | None = None
    revision: str | None = None

    def __post_init__(self) -> None:
        if self.symmetric and self.text_b is None:
            raise ConfigurationError(
                "task.rows.symmetric=true needs two texts, and there is one; name the other as "
                "task.rows.text_b, or leave symmetric out"
            )

    def read(self, raw: RawTable, role: Role, on_bad_row: Literal["error", "skip"] = "error") -> LabelledExamples:
        """Raises DataError on a missing column, zero rows, or (unless skipped) a null, an empty text, an unknown label.

        A test split may hide its labels (-1, null or no column); its rows are never skipped, since servers count them.
        """
        names = [self.text_a] + ([self.text_b] if self.text_b else [])
        reading = Reading(raw, role, on_bad_row, names, self.label)
        texts = [reading.text(name) for name in names]
        labels = reading.labels(self.labels)
        keep = reading.keep()
        return LabelledExamples(
            text_a=_chosen(texts[0], keep),
            text_b=_chosen(texts[1], keep) if self.text_b else None,
            labels=labels[keep],
            row=keep,
            skipped=len(labels) - len(keep),
        )
