"""Extractive question answering: a question, a context and the spans that answer it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy import ndarray

from protoformer.data.examples.reading import _mark, _present
from protoformer.data.sources.source import RawTable, Role
from protoformer.errors import DataError


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
class ExtractiveQAReader:
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
