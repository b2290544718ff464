"""Extractive question answering: a question, a context and the spans of the context that answer it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Int
from numpy import ndarray

from protoformer.data.examples.columns import BadRows, OnBadRow, check_columns, nullable_texts, select
from protoformer.data.examples.labels import column_of_numbers
from protoformer.data.examples.values import Unreadable, as_text, python_values
from protoformer.data.sources.rows import scalar_text
from protoformer.data.sources.source import DatasetRef, RawTable, Role
from protoformer.errors import DataError


@dataclass(frozen=True)
class QuestionExamples:
    """Questions with their contexts and gold answers, by id; `row` is each one's row number in the file.

    A question without answers is unanswerable. `starts` are the answers' character offsets in the context.
    `hidden`: a test split without its answers.
    """

    ids: list[str]
    questions: list[str]
    contexts: list[str]
    answers: list[list[str]]
    starts: list[list[int | None]]
    row: Int[ndarray, "examples"]
    skipped: int
    hidden: bool = False
    reasons: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class ExtractiveQAReader(DatasetRef):
    """Reader of a data set of questions whose answers are spans of a context, in SQuAD's schema.

    `unanswerable` says whether a question may have no answer (v2.0); where it may not, a question without one is a bad row.
    `optional_id`: the rows of a table without ids are numbered. In a flat table `answers` holds one text,
    and the column `answer_start` where it begins (without that column, at its first occurrence in the context).
    """

    id: str = "id"
    question: str = "question"
    context: str = "context"
    answers: str = "answers"
    unanswerable: bool = False
    answer_start: str = "answer_start"
    optional_id: bool = False

    @property
    def grouped_by(self) -> str | None:
        return self.context

    def read(self, raw: RawTable, role: Role, on_bad_row: OnBadRow = "error") -> QuestionExamples:
        """Raises DataError on a missing column, zero rows, or (unless skipped, and only in a training split) an id that is
        null or repeated, an empty text, or an answer that is empty or does not stand in its context where it should.

        In splits that are scored no row is left out, and answers are not looked for in their contexts.
        """
        numbered = self.optional_id and self.id not in raw.table.column_names
        columns = [*([] if numbered else [self.id]), self.question, self.context]
        without_answers = role == "test" and self.answers not in raw.table.column_names
        check_columns(raw, columns if without_answers else [*columns, self.answers], self)
        bad_rows = BadRows(raw, on_bad_row, skippable=role == "train")
        questions, contexts = (nullable_texts(raw, name, bad_rows) for name in (self.question, self.context))
        if numbered:
            ids: list[str | None] = [str(row) for row in range(raw.table.num_rows)]
        else:
            ids = nullable_texts(raw, self.id, bad_rows)
            bad_rows.add(self.id, "null", np.asarray([name is None for name in ids]))
            bad_rows.add(self.id, "an id that stands twice", np.asarray(_repeated(ids)))
        for name, texts in ((self.question, questions), (self.context, contexts)):
            bad_rows.add(name, "empty text", np.asarray([not (text and text.strip()) for text in texts]))
        entries = [NO_ANSWERS] * len(ids) if without_answers else self._answers(raw, role, bad_rows, contexts)
        answers, starts = [entry.texts for entry in entries], [entry.starts for entry in entries]
        hidden = without_answers or (role == "test" and not any(answers))
        if not hidden:
            self._check(bad_rows, answers, starts, contexts if role == "train" else None)
        rows = bad_rows.usable()
        return QuestionExamples(
            ids=[str(name) for name in select(ids, rows)],
            questions=[text or "" for text in select(questions, rows)],
            contexts=[text or "" for text in select(contexts, rows)],
            answers=select(answers, rows),
            starts=select(starts, rows),
            row=rows,
            skipped=len(ids) - len(rows),
            hidden=hidden,
            reasons=bad_rows.reasons,
        )

    def _check(
        self,
        bad_rows: BadRows,
        answers: list[list[str]],
        starts: list[list[int | None]],
        contexts: list[str | None] | None,
    ) -> None:
        """Checks of the answers; with `contexts`, also whether they stand there."""

        def add(problem: str, bad: list[bool]) -> None:
            bad_rows.add(self.answers, problem, np.asarray(bad))

        if not self.unanswerable:
            add("no answer", [not texts for texts in answers])
        add("an empty answer", [not all(texts) for texts in answers])
        add("a negative answer_start", [any((start or 0) < 0 for start in row) for row in starts])
        if contexts is not None:
            wrong = [not _in_context(*row) for row in zip(contexts, answers, starts, strict=True)]
            add("an answer that does not stand in the context at its answer_start", wrong)
        add("a null answer_start", [None in row for row in starts])

    def _answers(self, raw: RawTable, role: Role, bad_rows: BadRows, contexts: list[str | None]) -> list["Answers"]:
        """The answers of each row. Raises DataError where no row's are in a form of SQuAD's, or a text."""
        column = raw.table.column(self.answers)
        values = python_values(column, raw.table.schema.field(self.answers))
        present = [value for value in values if value is not None]
        if present and as_text(column) is not None and not any(isinstance(value, list | dict) for value in present):
            return self._flat_answers(raw, bad_rows, contexts)
        if present or role != "test":  # else they are hidden
            bad_rows.add(self.answers, NO_LISTS, np.asarray([value is None for value in values]))
        entries = [answers_of(value) for value in values]
        if entries and all(entry.problem == NOT_SQUAD for entry in entries):
            raise DataError(
                f"{raw.origin}: column {self.answers!r} holds {column.type}, not SQuAD's lists `text` and `answer_start`"
            )
        for problem in dict.fromkeys(entry.problem for entry in entries if entry.problem):
            bad_rows.add(self.answers, problem, np.asarray([entry.problem == problem for entry in entries]))
        return entries

    def _flat_answers(self, raw: RawTable, bad_rows: BadRows, contexts: list[str | None]) -> list["Answers"]:
        """The one answer of each row, a text; an empty one is none."""
        texts = [text or "" for text in nullable_texts(raw, self.answers, bad_rows)]
        if self.answer_start not in raw.table.column_names:
            first = [max(0, (context or "").find(text)) for context, text in zip(contexts, texts, strict=True)]
            return [Answers([text], [start]) if text else NO_ANSWERS for text, start in zip(texts, first, strict=True)]
        starts = column_of_numbers(raw.table.column(self.answer_start))
        if starts is None:
            raise DataError(f"{raw.origin}: column {self.answer_start!r} holds no numbers")
        wrong = starts.problems["a label that is no number"] | (starts.values % 1 != 0)
        has_text = np.asarray([bool(text) for text in texts])
        bad_rows.add(self.answer_start, "no whole number", (wrong | starts.missing) & has_text)
        numbers = np.where(wrong, 0, starts.values).astype(int).tolist()
        return [Answers([text], [start]) if text else NO_ANSWERS for text, start in zip(texts, numbers, strict=True)]


NO_LISTS = "null; a question without an answer has empty lists"
NOT_SQUAD = "not SQuAD's `text` and `answer_start`"


@dataclass(frozen=True)
class Answers:
    """The answers of a question: their texts and starts (None: null), and what is wrong with their form."""

    texts: list[str]
    starts: list[int | None]
    problem: str | None = None


NO_ANSWERS = Answers([], [])


def answers_of(value: object) -> Answers:
    """Answers as one object of lists (the hub's form), as a list of objects (SQuAD's own files'), or as one object."""
    if value is None or value in ([], {}):
        return NO_ANSWERS
    if isinstance(value, list) and all(
        isinstance(each, dict) and {"text", "answer_start"} <= set(each) for each in value
    ):
        texts, starts = [each["text"] for each in value], [each["answer_start"] for each in value]
    elif isinstance(value, dict) and {"text", "answer_start"} <= set(value):
        texts, starts = (
            list(each) if isinstance(each, list) else [] if each is None else [each]
            for each in (value["text"], value["answer_start"])
        )
    else:
        return Answers([], [], NOT_SQUAD)
    if wrong := [text for text in texts if isinstance(text, list | dict | Unreadable)]:
        return Answers([], [], f"an answer that is no text ({wrong[0]!r:.40})")
    numbers = [int(start) if isinstance(start, float) and start.is_integer() else start for start in starts]
    if wrong := [
        start for start in numbers if start is not None and (isinstance(start, bool) or not isinstance(start, int))
    ]:
        return Answers([], [], f"an answer_start that is no whole number ({wrong[0]!r:.40})")
    return Answers([scalar_text(text) or "" for text in texts], numbers)


def _repeated(names: Sequence[object]) -> list[bool]:
    """Whether each name occurred before."""
    seen: set[object] = set()
    repeated = []
    for name in names:
        repeated.append(name in seen)
        seen.add(name)
    return repeated


def _in_context(context: object, texts: Sequence[str], starts: Sequence[int | None]) -> bool:
    """Whether every text stands in the context at its start."""
    if len(texts) != len(starts) or not isinstance(context, str):
        return False
    return all(
        start is not None and text and context.startswith(text, start)
        for text, start in zip(texts, starts, strict=True)
    )
