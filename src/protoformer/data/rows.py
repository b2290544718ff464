"""Rows of a data set -> canonical examples. What cannot be used is an error that names file, row and column."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy import ndarray

from protoformer.data.sources import RawTable
from protoformer.errors import ConfigurationError, DataError

Role = Literal["train", "validation", "test"]


@dataclass(frozen=True)
class LabelledExamples:
    """Texts (or pairs) and their labels; `row` is each one's number in the file."""

    text_a: list[str]
    text_b: list[str] | None
    labels: ndarray
    row: ndarray
    skipped: int


@dataclass(frozen=True)
class LabelledTexts:
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
                "task.rows.symmetric=true says that two texts may change places, and there is one; name the other by "
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
class Choices:
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
            raise ConfigurationError("task.rows.context=[] names no column; name one, or several to be joined")
        if len(self.choices) < 2:
            raise ConfigurationError(
                f"task.rows.choices={list(self.choices)}: a choice is between two or more; name a column for each, or with "
                "task.rows.options=<a column of lists> the names of its entries"
            )
        if twice := [name for name in self.choices if list(self.choices).count(name) > 1]:
            raise ConfigurationError(f"task.rows.choices names {twice[0]!r} more than once")

    @property
    def contexts(self) -> list[str]:
        """Names of the context's columns."""
        return [self.context] if isinstance(self.context, str) else list(self.context)

    def read(self, raw: RawTable, role: Role, on_bad_row: Literal["error", "skip"] = "error") -> ChoiceExamples:
        """Raises DataError as LabelledTexts does, a choice being a label, and for a list of another number of choices."""
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


@dataclass(frozen=True)
class QuestionExamples:
    """Questions with their contexts and gold answers (none: the question has no answer), by id; `row` as in the file."""

    ids: list[str]
    questions: list[str]
    contexts: list[str]
    answers: list[list[str]]
    starts: list[list[int]]  # where each answer begins in the context, in characters
    row: ndarray
    skipped: int
    hidden: bool = False  # a test split without its answers


@dataclass(frozen=True)
class Questions:
    """A data set of questions whose answers are spans of a context, in SQuAD's schema.

    `unanswerable` says whether a question may have no answer (v2.0); where it may not, a question without one is a bad row.
    """

    dataset: str
    subset: str | None = None
    revision: str | None = None
    id: str = "id"
    question: str = "question"
    context: str = "context"
    answers: str = "answers"
    unanswerable: bool = False

    def read(self, raw: RawTable, role: Role, on_bad_row: Literal["error", "skip"] = "error") -> QuestionExamples:
        """Raises DataError on a missing column, zero rows, or (unless skipped, and only in a training split) an id that is
        null or stands twice, an empty text, or an answer that is empty or does not stand in its context where it should.

        Of a split that is scored no row is left out, and its answers are not looked for in their contexts.
        """
        names = [self.id, self.question, self.context]
        hidden = role == "test" and self.answers not in raw.table.column_names
        _present(raw, names if hidden else [*names, self.answers])
        bad = np.zeros(raw.table.num_rows, dtype=bool)

        def mark(column: str, what: str, wrong: list[bool]) -> None:
            _mark(raw, column, what, np.asarray(wrong), bad, on_bad_row if role == "train" else "never")

        ids, questions, contexts = (raw.table.column(name).to_pylist() for name in names)
        mark(self.id, "null", [name is None for name in ids])
        mark(self.id, "an id that stands twice", _again(ids))
        for name, texts in ((self.question, questions), (self.context, contexts)):
            mark(name, "empty text", [not (isinstance(text, str) and text.strip()) for text in texts])
        given = [None] * len(ids) if hidden else self._answers(raw)
        answers = [list((each or {}).get("text") or []) for each in given]
        starts = [list((each or {}).get("answer_start") or []) for each in given]
        hidden = hidden or (role == "test" and not any(answers))
        if not hidden:
            self._check(mark, answers, starts, contexts if role == "train" else None)
        keep = np.flatnonzero(~bad)
        if len(keep) == 0:
            raise DataError(f"{raw.origin}: every one of its {len(bad)} rows is unusable")

        def kept(column: list[Any]) -> list[Any]:
            return [column[i] for i in keep]

        return QuestionExamples(
            ids=[str(name) for name in kept(ids)],
            questions=kept(questions),
            contexts=kept(contexts),
            answers=kept(answers),
            starts=kept(starts),
            row=keep,
            skipped=int(len(bad) - len(keep)),
            hidden=hidden,
        )

    def _check(
        self,
        mark: Callable[[str, str, list[bool]], None],
        answers: list[list[str]],
        starts: list[list[int]],
        contexts: list[Any] | None,
    ) -> None:
        """What can be wrong with answers; with `contexts`, also whether they stand there."""
        if not self.unanswerable:
            mark(self.answers, "no answer", [not texts for texts in answers])
        mark(self.answers, "an empty answer", [not all(texts) for texts in answers])
        mark(self.answers, "a negative answer_start", [any((at or 0) < 0 for at in places) for places in starts])
        if contexts is not None:
            wrong = [not _stand(*row) for row in zip(contexts, answers, starts, strict=True)]
            mark(self.answers, "an answer that does not stand in the context at its answer_start", wrong)
        mark(self.answers, "a null answer_start", [None in places for places in starts])

    def _answers(self, raw: RawTable) -> list[Any]:
        column = raw.table.column(self.answers)
        fields = {column.type.field(i).name for i in range(column.type.num_fields)}
        if not {"text", "answer_start"} <= fields:
            raise DataError(
                f"{raw.origin}: column {self.answers!r} holds {column.type}, not SQuAD's lists `text` and `answer_start`"
            )
        return column.to_pylist()


def _again(names: list[Any]) -> list[bool]:
    """Whether each stood before."""
    seen: set[Any] = set()
    return [name in seen or bool(seen.add(name)) for name in names]  # type: ignore[func-returns-value]


def _stand(context: Any, texts: list[str], starts: list[int]) -> bool:
    """Whether every text begins in the context where it should."""
    if len(texts) != len(starts) or not isinstance(context, str):
        return False
    return all(at is not None and text and context.startswith(text, at) for text, at in zip(texts, starts, strict=True))


def _present(raw: RawTable, needed: Sequence[str]) -> None:
    if lacking := [name for name in needed if name not in raw.table.column_names]:
        raise DataError(
            f"{raw.origin}: no column {', '.join(map(repr, lacking))}; it has {', '.join(raw.table.column_names)}"
        )
    if raw.table.num_rows == 0:
        raise DataError(f"{raw.origin}: zero rows")


class Reading:
    """A table whose columns are taken one by one; what is found wrong in a row is an error, or marks it as unusable."""

    def __init__(self, raw: RawTable, role: Role, on_bad_row: str, names: Sequence[str], label: str) -> None:
        _present(raw, names if role == "test" else [*names, label])
        self.raw, self.role, self.on_bad_row, self.label = raw, role, on_bad_row, label
        self.bad = np.zeros(raw.table.num_rows, dtype=bool)

    def keep(self) -> ndarray:
        """The rows that can be used, by number; of a test split all."""
        keep = np.arange(len(self.bad)) if self.role == "test" else np.flatnonzero(~self.bad)
        if len(keep) == 0:
            raise DataError(f"{self.raw.origin}: every one of its {len(self.bad)} rows is unusable")
        return keep

    def text(self, name: str) -> list[str]:
        column = self.raw.table.column(name)
        if not _textual(column.type):
            raise DataError(f"{self.raw.origin}: column {name!r} holds {column.type}, not text")
        for what, wrong in (
            ("null", pc.is_null(column)),
            ("empty text", pc.equal(pc.utf8_trim_whitespace(column), "")),
        ):
            self._mark(name, what, np.asarray(wrong.fill_null(False)))
        return column.fill_null("").to_pylist()

    def listed(self, name: str, count: int) -> list[list[str]]:
        """A column of lists of `count` texts each."""
        column = self.raw.table.column(name)
        kind = column.type
        if not ((pa.types.is_list(kind) or pa.types.is_large_list(kind)) and _textual(kind.value_type)):
            raise DataError(f"{self.raw.origin}: column {name!r} holds {kind}, not lists of texts")
        rows = [list(row or ()) for row in column.to_pylist()]
        short = np.asarray([len(row) != count for row in rows])
        empty = np.asarray([not all(text and text.strip() for text in row) for row in rows])
        self._mark(name, f"not a list of {count} choices", short)
        self._mark(name, "an empty choice", empty & ~short)
        return [[""] * count if short[i] else [text or "" for text in row] for i, row in enumerate(rows)]

    def labels(self, words: Sequence[str] | None, first: int = 0) -> ndarray:
        """Numbers from 0 (-1: hidden); in the file they count from `first`, or are words. Without words any number."""
        dtype = np.float32 if words is None else np.int64
        if self.label not in self.raw.table.column_names:
            return np.full(len(self.bad), -1, dtype=dtype)
        column = self.raw.table.column(self.label)
        if _textual(column.type) and words is not None:
            unknown = pc.and_(pc.is_valid(column), pc.invert(pc.is_in(column, value_set=pa.array(words, column.type))))
            _mark(self.raw, self.label, f"none of the labels {list(words)}", np.asarray(unknown), self.bad, "never")
            column, first = pc.index_in(column, value_set=pa.array(words, column.type)), 0
        if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
            raise DataError(f"{self.raw.origin}: column {self.label!r} holds {column.type}, not a label")
        values = np.asarray(column.cast(pa.float64()).fill_null(-1.0))
        hidden = (values == -1) if self.role == "test" else np.zeros(len(values), dtype=bool)
        if self.role != "test":
            self._mark(self.label, "null", np.asarray(pc.is_null(column)))
        if words is None:
            self._mark(self.label, "a label that is no number", ~np.isfinite(values) & ~hidden)
            if self.role != "test":
                self._mark(self.label, "a hidden label (-1)", values == -1)
            return values.astype(dtype)
        values = np.where(hidden, -1, values - first)
        wrong = ~np.isin(values, np.arange(len(words))) & ~hidden
        self._mark(self.label, f"a label outside {first} to {first + len(words) - 1}", wrong)
        return values.astype(dtype)

    def _mark(self, column: str, what: str, wrong: ndarray) -> None:
        _mark(self.raw, column, what, wrong, self.bad, self.on_bad_row)


def _textual(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _chosen(texts: list[str], keep: ndarray) -> list[str]:
    return texts if len(keep) == len(texts) else [texts[i] for i in keep]


def _mark(raw: RawTable, column: str, what: str, wrong: ndarray, bad: ndarray, on_bad_row: str) -> None:
    """Mark rows as bad where they are skipped; else raise. `never`: they cannot be skipped, and so it is not advised."""
    where = np.flatnonzero(wrong)
    if len(where) == 0:
        return
    if on_bad_row != "skip":
        value = raw.table.column(column)[int(where[0])].as_py()
        shown = "" if value in (None, "") else f" ({value!r})" if len(repr(value)) < 80 else f" ({repr(value)[:76]}...)"
        more = f" ({len(where)} rows in all)" if len(where) > 1 else ""
        ways = "; task.data.on_bad_row=skip leaves such rows out" if on_bad_row == "error" else ""
        raise DataError(f"{raw.origin}, row {where[0]}, column {column!r}: {what}{shown}{more}{ways}")
    bad |= wrong
