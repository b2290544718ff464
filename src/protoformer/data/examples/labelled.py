"""Labelled texts, or pairs of texts: classification and regression."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from jaxtyping import Int
from numpy import ndarray

from protoformer.data.examples.columns import ColumnReader, OnBadRow, select
from protoformer.data.sources.source import DatasetRef, RawTable, Role
from protoformer.errors import ConfigurationError, DataError


@dataclass(frozen=True)
class LabelledExamples:
    """Texts (or pairs) and their labels; `row` is each one's row number in the file, `skipped` counts rows left out, `reasons`
    by reason."""

    text_a: list[str]
    text_b: list[str] | None
    labels: ndarray
    row: Int[ndarray, "examples"]
    skipped: int
    reasons: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class LabelledTextReader(DatasetRef):
    """Reader of a data set with one or two text columns and a label column.

    `labels` are the names of the classes in order; None makes the label a number (regression), "auto" stands for those of the
    training split until they are found (`assembly.own_data`). `symmetric`: the two texts may change places.

    Raises ConfigurationError for a symmetric data set of one text, and for labels that are not two different ones at least.
    """

    text_a: str
    text_b: str | None = None
    label: str = "label"
    labels: Sequence[str] | Literal["auto"] | None = None
    symmetric: bool = False
    text: str | None = None  # the column of the text, where yaml takes text_a from it

    @property
    def stratified_by(self) -> str | None:
        return None if self.labels is None else self.label

    def __post_init__(self) -> None:
        if self.symmetric and self.text_b is None:
            raise ConfigurationError(
                "task.rows.symmetric=true needs two texts, and there is one; name the other as "
                "task.rows.text_b, or leave symmetric out"
            )
        if self.labels is None or self.labels == "auto":
            return
        names = [str(label) for label in self.labels]
        if len(set(names)) < max(2, len(names)):
            raise ConfigurationError(
                f"task.rows.labels=[{', '.join(names)}]: a classifier needs two labels at least, each named once; null is for "
                "numbers (regression), auto for the labels of the training data"
            )

    def read(self, raw: RawTable, role: Role, on_bad_row: OnBadRow = "error") -> LabelledExamples:
        """Raises DataError on a missing column, zero rows, or (unless skipped) a null, an empty text, an unknown label.

        A test split may hide its labels (-1, null or no column); its rows are never skipped, since servers count them.
        """
        columns = [self.text_a] if self.text_b is None else [self.text_a, self.text_b]
        reader = ColumnReader(raw, role, on_bad_row, columns, self.label, self)
        texts = [reader.text(name) for name in columns]
        if self.labels == "auto":
            raise DataError(f"{raw.origin}: task.rows.labels=auto, and nobody has looked for them")
        labels = reader.labels(self.labels)
        rows = reader.usable_rows()
        return LabelledExamples(
            text_a=select(texts[0], rows),
            text_b=select(texts[1], rows) if self.text_b is not None else None,
            labels=labels[rows],
            row=rows,
            skipped=len(labels) - len(rows),
            reasons=reader.skipped,
        )
