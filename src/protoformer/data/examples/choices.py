"""Multiple-choice examples: a context and its possible continuations or answers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from numpy import ndarray

from protoformer.data.examples.reading import Reading, _chosen
from protoformer.data.sources.source import RawTable, Role
from protoformer.errors import ConfigurationError


@dataclass(frozen=True)
class ChoiceExamples:
    """Texts, the ways to go on from each, and which is right; `row` is each one's number in the file.

    `last` is the end of each text where it comes from several columns, the text of the last one; None where from one.
    """

    contexts: list[str]
    last: list[str] | None
    choices: list[list[str]]
    labels: ndarray
    row: ndarray
    skipped: int


@dataclass(frozen=True)
class MultipleChoiceReader:
    """A data set of texts, several ways to go on from each, and the right one's number or name.

    `context` is a column, or several whose texts follow one another. `choices` are a column each; where `options` names one
    column that lists them all, they are the names of its entries. `label` holds the right one's number, counted from
    `first_label`, or its name. `stem` is a column that stands before every choice (SWAG's beginning of the second sentence,
    COPA's question). Raises ConfigurationError for less than one context or two choices.
    """

    dataset: str
    context: str | Sequence[str]
    choices: Sequence[str]
    options: str | None = None
    stem: str | None = None
    label: str = "label"
    first_label: int = 0
    subset: str | None = None
    revision: str | None = None

    def __post_init__(self) -> None:
        if not self.contexts:
            raise ConfigurationError("task.rows.context=[] is empty; name one column, or several to be joined")
        if len(self.choices) < 2:
            raise ConfigurationError(
                f"task.rows.choices={list(self.choices)}: at least two choices are needed; name a column for each, or with "
                "task.rows.options=<a column of lists> the names of its entries"
            )
        if twice := [name for name in self.choices if list(self.choices).count(name) > 1]:
            raise ConfigurationError(f"task.rows.choices names {twice[0]!r} more than once")

    @property
    def contexts(self) -> list[str]:
        """Names of the context's columns."""
        return [self.context] if isinstance(self.context, str) else list(self.context)

    def read(self, raw: RawTable, role: Role, on_bad_row: Literal["error", "skip"] = "error") -> ChoiceExamples:
        """Raises DataError as LabelledTextReader does, a choice being a label, and for a list of another number of choices."""
        stem = [self.stem] if self.stem else []
        choices = [self.options] if self.options else list(self.choices)
        reading = Reading(raw, role, on_bad_row, [*self.contexts, *stem, *choices], self.label)
        contexts = [reading.text(name) for name in self.contexts]
        stems = [reading.text(name) for name in stem]
        listed = (
            reading.listed(self.options, len(self.choices))
            if self.options
            else [list(texts) for texts in zip(*(reading.text(name) for name in choices), strict=True)]
        )
        labels = reading.labels(self.choices, self.first_label)
        keep = reading.keep()
        first = contexts[:-1] or contexts
        return ChoiceExamples(
            contexts=[" ".join(filter(None, (column[i] for column in first))) for i in keep],
            last=_chosen(contexts[-1], keep) if len(contexts) > 1 else None,
            choices=[[" ".join(filter(None, (*(s[i] for s in stems), text))) for text in listed[i]] for i in keep],
            labels=labels[keep],
            row=keep,
            skipped=len(labels) - len(keep),
        )
