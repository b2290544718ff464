"""Multiple-choice examples: a context and its possible continuations or answers."""

from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Int
from numpy import ndarray

from protoformer.data.examples.columns import ColumnReader, OnBadRow, select
from protoformer.data.sources.source import DatasetRef, RawTable, Role
from protoformer.errors import ConfigurationError


@dataclass(frozen=True)
class MultipleChoiceExamples:
    """Contexts, the choices of each, and the index of the right one; `row` is each one's row number in the file.

    `last_part` is the end of each context where contexts are joined from several columns: the text of the last column.
    """

    contexts: list[str]
    last_part: list[str] | None
    choices: list[list[str]]
    labels: Int[ndarray, "examples"]
    row: Int[ndarray, "examples"]
    skipped: int


@dataclass(frozen=True)
class MultipleChoiceReader(DatasetRef):
    """Reader of a data set of contexts, several choices each, and the index or name of the right one.

    `context` is a column, or several whose texts are joined. `choices` are a column each; with `options`, a column of lists,
    they are the names of the list's entries. `label` holds the right one's number, counted from `first_label`, or its name.
    `stem` is a column that precedes every choice (SWAG's beginning of the second sentence, COPA's question).
    Raises ConfigurationError for no context or fewer than two choices.
    """

    context: str | Sequence[str]
    choices: Sequence[str]
    options: str | None = None
    stem: str | None = None
    label: str = "label"
    first_label: int = 0

    def __post_init__(self) -> None:
        if not self.contexts:
            raise ConfigurationError("task.rows.context=[] is empty; name one column, or several to be joined")
        if len(self.choices) < 2:
            raise ConfigurationError(
                f"task.rows.choices={list(self.choices)}: at least two choices are needed; name a column for each, or with "
                "task.rows.options=<a column of lists> the names of its entries"
            )
        if repeated := [name for name in self.choices if list(self.choices).count(name) > 1]:
            raise ConfigurationError(f"task.rows.choices names {repeated[0]!r} more than once")

    @property
    def contexts(self) -> list[str]:
        """Names of the context's columns."""
        return [self.context] if isinstance(self.context, str) else list(self.context)

    def read(self, raw: RawTable, role: Role, on_bad_row: OnBadRow = "error") -> MultipleChoiceExamples:
        """Raises DataError as LabelledTextReader does, and for a list with another number of choices."""
        stem = [self.stem] if self.stem else []
        columns = [self.options] if self.options else list(self.choices)
        reader = ColumnReader(raw, role, on_bad_row, [*self.contexts, *stem, *columns], self.label)
        contexts = [reader.text(name) for name in self.contexts]
        stems = reader.text(self.stem) if self.stem else None
        if self.options:
            choices = reader.text_lists(self.options, len(self.choices))
        else:
            choices = [list(texts) for texts in zip(*(reader.text(name) for name in columns), strict=True)]
        labels = reader.labels(self.choices, self.first_label)
        rows = reader.usable_rows()
        first_parts = contexts[:-1] or contexts
        return MultipleChoiceExamples(
            contexts=[_joined(*(column[row] for column in first_parts)) for row in rows],
            last_part=select(contexts[-1], rows) if len(contexts) > 1 else None,
            choices=[[_joined(stems[row] if stems else "", text) for text in choices[row]] for row in rows],
            labels=labels[rows],
            row=rows,
            skipped=len(labels) - len(rows),
        )


def _joined(*texts: str) -> str:
    return " ".join(text for text in texts if text)
