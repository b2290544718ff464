"""Extractive question answering: a question, a context and the spans of the context that answer it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int
from numpy import ndarray

from protoformer.data.examples.columns import BadRows, OnBadRow, check_columns, select
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
    starts: list[list[int]]
    row: Int[ndarray, "examples"]
    skipped: int
    hidden: bool = False


@dataclass(frozen=True)
class ExtractiveQAReader(DatasetRef):
    """Reader of a data set of questions whose answers are spans of a context, in SQuAD's schema.

    `unanswerable` says whether a question may have no answer (v2.0); where it may not, a question without one is a bad row.
    """

    id: str = "id"
    question: str = "question"
    context: str = "context"
    answers: str = "answers"
    unanswerable: bool = False

    def read(self, raw: RawTable, role: Role, on_bad_row: OnBadRow = "error") -> QuestionExamples:
        """Raises DataError on a missing column, zero rows, or (unless skipped, and only in a training split) an id that is
        null or repeated, an empty text, or an answer that is empty or does not stand in its context where it should.

        In splits that are scored no row is left out, and answers are not looked for in their contexts.
        """
        columns = [self.id, self.question, self.context]
        without_answers = role == "test" and self.answers not in raw.table.column_names
        check_columns(raw, columns if without_answers else [*columns, self.answers])
        bad_rows = BadRows(raw, on_bad_row, skippable=role == "train")
        ids, questions, contexts = (raw.table.column(name).to_pylist() for name in columns)
        bad_rows.add(self.id, "null", np.asarray([name is None for name in ids]))
        bad_rows.add(self.id, "an id that stands twice", np.asarray(_repeated(ids)))
        for name, texts in ((self.question, questions), (self.context, contexts)):
            empty = [not (isinstance(text, str) and text.strip()) for text in texts]
            bad_rows.add(name, "empty text", np.asarray(empty))
        entries = [{}] * len(ids) if without_answers else [entry or {} for entry in self._answers(raw)]
        answers = [list(entry.get("text") or []) for entry in entries]
        starts = [list(entry.get("answer_start") or []) for entry in entries]
        hidden = without_answers or (role == "test" and not any(answers))
        if not hidden:
            self._check(bad_rows, answers, starts, contexts if role == "train" else None)
        rows = bad_rows.usable()
        return QuestionExamples(
            ids=[str(name) for name in select(ids, rows)],
            questions=select(questions, rows),
            contexts=select(contexts, rows),
            answers=select(answers, rows),
            starts=select(starts, rows),
            row=rows,
            skipped=len(ids) - len(rows),
            hidden=hidden,
        )

    def _check(
        self, bad_rows: BadRows, answers: list[list[str]], starts: list[list[int]], contexts: list[Any] | None
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

    def _answers(self, raw: RawTable) -> list[dict[str, Any] | None]:
        column = raw.table.column(self.answers)
        fields = {column.type.field(i).name for i in range(column.type.num_fields)}
        if not {"text", "answer_start"} <= fields:
            raise DataError(
                f"{raw.origin}: column {self.answers!r} holds {column.type}, not SQuAD's lists `text` and `answer_start`"
            )
        return column.to_pylist()


def _repeated(names: Sequence[Any]) -> list[bool]:
    """Whether each name occurred before."""
    seen: set[Any] = set()
    repeated = []
    for name in names:
        repeated.append(name in seen)
        seen.add(name)
    return repeated


def _in_context(context: Any, texts: Sequence[str], starts: Sequence[int | None]) -> bool:
    """Whether every text stands in the context at its start."""
    if len(texts) != len(starts) or not isinstance(context, str):
        return False
    return all(
        start is not None and text and context.startswith(text, start)
        for text, start in zip(texts, starts, strict=True)
    )
