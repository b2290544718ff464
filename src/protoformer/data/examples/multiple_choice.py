"""Multiple-choice examples: a context and its possible continuations or answers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Int
from numpy import ndarray

from protoformer.data.examples.columns import ColumnReader, OnBadRow, select
from protoformer.data.examples.options import choice_labels, option_lists
from protoformer.data.sources.source import DatasetRef, RawTable, Role
from protoformer.errors import ConfigurationError


@dataclass(frozen=True)
class MultipleChoiceExamples:
    """Contexts, the choices of each, and the index of the right one; `row` is each one's row number in the file.

    An example may have fewer choices than others; `reasons` says why rows were skipped.
    `last_part` is the end of each context where contexts are joined from several columns: the text of the last column.
    """

    contexts: list[str]
    last_part: list[str] | None
    choices: list[list[str]]
    labels: Int[ndarray, "examples"]
    row: Int[ndarray, "examples"]
    skipped: int
    reasons: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class MultipleChoiceReader(DatasetRef):
    """Reader of a data set of contexts, several choices each, and the index or name of the right one.

    `context` is a column, or several whose texts are joined. `choices` are a column each; with `options`, they are the names of
    the entries of that column: lists of texts, of two to as many entries as there are names; or objects, or lists of objects,
    with `text` and `label`, whose labels are the row's own names (ARC, OpenBookQA). `label` holds the right choice's name, its
    number counted from `first_label`, its text, or of two choices false or true. `stem` is a column that precedes every choice
    (SWAG's beginning of the second sentence, COPA's question). `blank` marks where in the context a choice belongs: the text
    after it follows each choice (Winogrande's `_`).
    Raises ConfigurationError for no context or fewer than two choices.
    """

    context: str | Sequence[str]
    choices: Sequence[str]
    options: str | None = None
    stem: str | None = None
    blank: str | None = None
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
        reader = ColumnReader(raw, role, on_bad_row, [*self.contexts, *stem, *columns], self.label, self)
        contexts = [reader.text(name) for name in self.contexts]
        stems = reader.text(self.stem) if self.stem else None
        if self.options:
            choices, names = option_lists(reader, self.options, self.choices)
        else:
            choices = [list(texts) for texts in zip(*(reader.text(name) for name in columns), strict=True)]
            names = [list(self.choices)] * len(choices)
        labels = choice_labels(reader, names, choices, self.choices, self.first_label)
        choices = [[_joined(stems[row] if stems else "", text) for text in texts] for row, texts in enumerate(choices)]
        if self.blank:
            contexts[-1], choices = self._filled(reader, contexts[-1], choices)
        rows = reader.usable_rows()
        first_parts = contexts[:-1] or contexts
        return MultipleChoiceExamples(
            contexts=[_joined(*(column[row] for column in first_parts)) for row in rows],
            last_part=select(contexts[-1], rows) if len(contexts) > 1 else None,
            choices=select(choices, rows),
            labels=labels[rows],
            row=rows,
            skipped=len(labels) - len(rows),
            reasons=reader.skipped,
        )

    def _filled(
        self, reader: ColumnReader, contexts: Sequence[str], choices: Sequence[list[str]]
    ) -> tuple[list[str], list[list[str]]]:
        """Contexts up to the blank, and choices with what follows it."""
        parts = [context.partition(str(self.blank)) for context in contexts]
        problem = f"no blank {self.blank!r}, which task.rows.blank names"
        reader.bad_rows.add(self.contexts[-1], problem, np.asarray([not blank for _, blank, _ in parts]))
        return (
            [before.rstrip() for before, _, _ in parts],
            [[f"{text}{after}" for text in texts] for (_, _, after), texts in zip(parts, choices, strict=True)],
        )


def _joined(*texts: str) -> str:
    return " ".join(text for text in texts if text)
