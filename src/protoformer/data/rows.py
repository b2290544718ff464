"""Rows of a data set -> canonical examples. What cannot be used is an error that names file, row and column."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy import ndarray

from protoformer.data.sources import RawTable
from protoformer.errors import DataError

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

    `labels` are the words of the integer labels, in order; None makes the label a number (regression).
    """

    dataset: str
    text_a: str
    text_b: str | None = None
    label: str = "label"
    labels: Sequence[str] | None = None
    subset: str | None = None
    revision: str | None = None

    def read(self, raw: RawTable, role: Role, on_bad_row: Literal["error", "skip"] = "error") -> LabelledExamples:
        """Raises DataError on a missing column, zero rows, or (unless skipped) a null, an empty text, an unknown label.

        A test split may hide its labels (-1, null or no column); its rows are never skipped, since servers count them.
        """
        names = [self.text_a] + ([self.text_b] if self.text_b else [])
        texts, labels, keep, skipped = _labelled(raw, names, self.label, self.labels, role, on_bad_row)
        return LabelledExamples(texts[0], texts[1] if self.text_b else None, labels, keep, skipped)


@dataclass(frozen=True)
class ChoiceExamples:
    """Texts, the ways to go on from each, and which is right; `row` is each one's number in the file."""

    contexts: list[str]
    choices: list[list[str]]
    labels: ndarray
    row: ndarray
    skipped: int


@dataclass(frozen=True)
class Choices:
    """A data set with a context column, a column for each choice, and the number of the right one.

    `stem` is a column that stands before every choice (SWAG's beginning of the second sentence, COPA's question).
    """

    dataset: str
    context: str
    choices: Sequence[str]
    stem: str | None = None
    label: str = "label"
    subset: str | None = None
    revision: str | None = None

    def read(self, raw: RawTable, role: Role, on_bad_row: Literal["error", "skip"] = "error") -> ChoiceExamples:
        """Raises DataError as LabelledTexts does, a choice being a label."""
        names = [self.context, *([self.stem] if self.stem else []), *self.choices]
        texts, labels, keep, skipped = _labelled(raw, names, self.label, self.choices, role, on_bad_row)
        choices = list(zip(*texts[-len(self.choices) :], strict=True))
        stems = texts[1] if self.stem else None
        return ChoiceExamples(
            contexts=texts[0],
            choices=[
                [f"{stems[i]} {text}" if stems and stems[i] else text for text in row] for i, row in enumerate(choices)
            ],
            labels=labels,
            row=keep,
            skipped=skipped,
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
        """Raises DataError on a missing column, zero rows, or (unless skipped, and only in a training split) an empty text
        or an answer that does not stand in its context where it should."""
        names = [self.id, self.question, self.context]
        hidden = role == "test" and self.answers not in raw.table.column_names
        _present(raw, names if hidden else [*names, self.answers])
        tolerated = on_bad_row if role == "train" else "error"
        bad = np.zeros(raw.table.num_rows, dtype=bool)
        ids, questions, contexts = (raw.table.column(name).to_pylist() for name in names[:3])
        for name, texts in ((self.question, questions), (self.context, contexts)):
            empty = np.asarray([not (isinstance(text, str) and text.strip()) for text in texts])
            _mark(raw, name, "empty text", empty, bad, tolerated)
        given = [None] * len(ids) if hidden else self._answers(raw)
        answers = [list((each or {}).get("text") or []) for each in given]
        starts = [list((each or {}).get("answer_start") or []) for each in given]
        hidden = hidden or (role == "test" and not any(answers))
        if not self.unanswerable and not hidden:
            _mark(raw, self.answers, "no answer", np.asarray([not texts for texts in answers]), bad, tolerated)
        if role == "train":
            wrong = np.asarray(
                [
                    any(at is None or context[at:][: len(text)] != text for text, at in zip(texts, places, strict=True))
                    if len(texts) == len(places) and isinstance(context, str)
                    else True
                    for context, texts, places in zip(contexts, answers, starts, strict=True)
                ]
            )
            _mark(
                raw,
                self.answers,
                "an answer that does not stand in the context at its answer_start",
                wrong,
                bad,
                tolerated,
            )
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

    def _answers(self, raw: RawTable) -> list[Any]:
        column = raw.table.column(self.answers)
        fields = {column.type.field(i).name for i in range(column.type.num_fields)}
        if not {"text", "answer_start"} <= fields:
            raise DataError(
                f"{raw.origin}: column {self.answers!r} holds {column.type}, not SQuAD's lists `text` and `answer_start`"
            )
        return column.to_pylist()


def _present(raw: RawTable, needed: Sequence[str]) -> None:
    if lacking := [name for name in needed if name not in raw.table.column_names]:
        raise DataError(
            f"{raw.origin}: no column {', '.join(map(repr, lacking))}; it has {', '.join(raw.table.column_names)}"
        )
    if raw.table.num_rows == 0:
        raise DataError(f"{raw.origin}: zero rows")


def _labelled(
    raw: RawTable, names: Sequence[str], label: str, labels: Sequence[str] | None, role: Role, on_bad_row: str
) -> tuple[list[list[str]], ndarray, ndarray, int]:
    """Text columns and labels of the rows that can be used, which rows these are, and how many were left out."""
    _present(raw, names if role == "test" else [*names, label])
    bad = np.zeros(raw.table.num_rows, dtype=bool)
    texts = [_text(raw, name, bad, on_bad_row) for name in names]
    found = _labels(raw, label, labels, role, bad, on_bad_row)
    keep = np.arange(len(bad)) if role == "test" else np.flatnonzero(~bad)
    if len(keep) == 0:
        raise DataError(f"{raw.origin}: every one of its {len(bad)} rows is unusable")
    chosen = [text if len(keep) == len(bad) else [text[i] for i in keep] for text in texts]
    return chosen, found[keep], keep, int(len(bad) - len(keep))


def _text(raw: RawTable, name: str, bad: ndarray, on_bad_row: str) -> list[str]:
    column = raw.table.column(name)
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        raise DataError(f"{raw.origin}: column {name!r} holds {column.type}, not text")
    for what, wrong in (
        ("null", pc.is_null(column)),
        ("empty text", pc.equal(pc.utf8_trim_whitespace(column), "")),
    ):
        _mark(raw, name, what, np.asarray(wrong.fill_null(False)), bad, on_bad_row)
    return column.fill_null("").to_pylist()


def _labels(
    raw: RawTable, label: str, labels: Sequence[str] | None, role: Role, bad: ndarray, on_bad_row: str
) -> ndarray:
    dtype = np.float32 if labels is None else np.int64
    if label not in raw.table.column_names:
        return np.full(raw.table.num_rows, -1, dtype=dtype)
    column = raw.table.column(label)
    if pa.types.is_string(column.type) and labels is not None:  # words instead of numbers
        unknown = pc.and_(pc.is_valid(column), pc.invert(pc.is_in(column, value_set=pa.array(labels))))
        _mark(raw, label, f"none of the labels {labels}", np.asarray(unknown), bad, "error")
        column = pc.index_in(column, value_set=pa.array(labels))
    if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
        raise DataError(f"{raw.origin}: column {label!r} holds {column.type}, not a label")
    null = np.asarray(pc.is_null(column))
    values = np.asarray(column.cast(pa.float64()).fill_null(-1.0))
    hidden = (values == -1) if role == "test" else np.zeros(len(values), dtype=bool)
    if role != "test":
        _mark(raw, label, "null", null, bad, on_bad_row)
    if labels is None:
        _mark(raw, label, "a label that is no number", ~np.isfinite(values) & ~hidden, bad, on_bad_row)
        if role != "test":
            _mark(raw, label, "a hidden label (-1)", values == -1, bad, on_bad_row)
    else:
        wrong = ~np.isin(values, np.arange(len(labels))) & ~hidden
        _mark(raw, label, f"a label outside 0 to {len(labels) - 1}", wrong, bad, on_bad_row)
    return values.astype(dtype)


def _mark(raw: RawTable, column: str, what: str, wrong: ndarray, bad: ndarray, on_bad_row: str) -> None:
    where = np.flatnonzero(wrong)
    if len(where) == 0:
        return
    if on_bad_row == "error":
        value = raw.table.column(column)[int(where[0])].as_py()
        more = f" ({len(where)} rows in all)" if len(where) > 1 else ""
        raise DataError(
            f"{raw.origin}, row {where[0]}, column {column!r}: {what}{'' if value in (None, '') else f' ({value!r})'}{more}; "
            "task.data.on_bad_row=skip leaves such rows out"
        )
    bad |= wrong
