"""Examples phrased as text (arXiv 2005.14165, section 2.4 and appendix G): contexts and completions from templates."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Int
from numpy import ndarray

from protoformer.data.examples.columns import BadRows, ColumnReader, OnBadRow
from protoformer.data.examples.options import choice_labels, option_lists
from protoformer.data.examples.values import Unreadable
from protoformer.data.prompts.examples import PromptExample, PromptExamples
from protoformer.data.prompts.fields import ANY, Span, Turns, replaced
from protoformer.data.prompts.parts import PromptParts
from protoformer.data.prompts.references import references
from protoformer.data.sources.source import DatasetRef, RawTable, Role
from protoformer.errors import ConfigurationError
from protoformer.text.prompts.template import MissingFieldError, Template, entry

AnswerType = Literal["choice", "completion", "text"]
DEFAULT_LABELS = "ABCDEFGHIJ"
MAX_OPTIONS = 1000  # of a row whose right ones are named by their texts


@dataclass(frozen=True)
class PromptReader(DatasetRef):
    """Reader of rows as prompts by templates (`text.prompts.template`).

    There are three types of answer: a choice among completions (`choices` are a template each; `options` is a column of lists,
    of which each entry fills the field `choice` of the templates `completion` and `context`), the one right `completion`, or a
    text that the model writes and that is compared with `answers`, the texts of this column (or entry of one, as in
    `answers.text`, or of several), the first of which fills the field `answer` of `completion` in a shot. Of `options`,
    `answers` are those that are right. `answer_objects`: they are objects with the entries `number`, `spans` and `date`, one of
    which is filled, or columns of such objects (DROP); several spans are joined by ", ".

    `context` is the template of what stands in front of a completion; spaces at its end are left out where the completion
    begins with one. `contexts` in its place are a context for each choice: where choices differ in the context and the same
    text follows (partial evaluation, Trinh and Le 2018). `label` is the column of the right choice: one of the names `labels`,
    a number from `first_label` on, or the choice's text; with `values`, a number each for the choices, it is a number, of which
    the nearest one is right. `words` are what stands for the values of a column, column by column (`*`: for all others),
    `replace` texts that are replaced in a column. `span` names a phrase of a text by its position (`fields.Span`), `turns` a
    conversation (`fields.Turns`). `earlier` is the template of a row that stands before this one in the same `group`; all of
    their texts are the field `history`. `no_answer` is the answer of rows that have none. `description` stands once before all
    shots. `separator` stands between description, shots and prompt. `group` is the column (or entry) of passages that several
    rows share, `question` that of questions whose answers are a row each. `version` counts the changes of the templates. Raises
    ConfigurationError for templates that do not fit together.
    """

    version: int = 1
    context: str = ""
    contexts: Sequence[str] = ()
    choices: Sequence[str] = ()
    options: str | None = None
    completion: str | None = None
    answers: str | Sequence[str] | None = None
    answer_objects: bool = False
    no_answer: str | None = None
    label: str = "label"
    labels: Sequence[str] | None = None
    first_label: int = 0
    values: Sequence[float] | None = None
    words: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    replace: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    span: Mapping[str, str] | None = None
    turns: Mapping[str, Any] | None = None
    earlier: str | None = None
    description: str = ""
    separator: str = "\n\n"
    group: str | None = None
    question: str | None = None

    def __post_init__(self) -> None:
        if self.choices and self.options:
            raise ConfigurationError("task.rows: choices and options are two ways to say the same; give one")
        if self.contexts and len(self.contexts) != len(self.choices):
            raise ConfigurationError(
                f"task.rows.contexts: {len(self.contexts)} contexts for {len(self.choices)} choices; give one for each"
            )
        if self.options and self.completion is None:
            raise ConfigurationError('task.rows.completion: say how an option is written, such as " {choice}"')
        if not self.choices and self.completion is None:
            raise ConfigurationError("task.rows: give choices, options or a completion")
        if self.choices and len(self.choices) < 2:
            raise ConfigurationError("task.rows.choices: at least two choices are needed")
        if self.values is not None and len(self.values) != len(self.choices):
            raise ConfigurationError("task.rows.values: give a number for each of task.rows.choices")
        if self.earlier is not None and (self.group is None or "." in self.group or self.turns is not None):
            raise ConfigurationError(
                "task.rows.earlier: name the column of what rows share in task.rows.group; no task.rows.turns"
            )
        self._parts  # raises for a part that cannot be read  # noqa: B018

    @cached_property
    def _parts(self) -> PromptParts:
        return PromptParts(
            [Template(text) for text in self.contexts or [self.context]],
            [Template(text) for text in self.choices],
            None if self.completion is None else Template(self.completion),
            None if self.earlier is None else Template(self.earlier),
            None if self.span is None else Span.of(self.span, "task.rows.span"),
            None if self.turns is None else Turns.of(self.turns, "task.rows.turns"),
        )

    @property
    def answer_type(self) -> AnswerType:
        if self.choices or self.options:
            return "choice"
        return "completion" if self.answers is None else "text"

    @property
    def answer_paths(self) -> list[str]:
        """The columns, or entries of some, whose texts are right."""
        return [self.answers] if isinstance(self.answers, str) else list(self.answers or ())

    @property
    def has_label(self) -> bool:
        """Whether a column names the right choice."""
        return self.answer_type == "choice" and self.answers is None

    def columns(self) -> list[str]:
        """The columns that are read, without that of the label."""
        parts = self._parts
        given = {"choice"} if self.options else set()
        given |= {"answer"} if self.answers is not None else set()
        named = [name for name in parts.columns if name not in given]
        entries = [*([] if parts.turns else self.answer_paths), self.group, self.question]
        named += [path.partition(".")[0] for path in entries if path]
        named += [self.options] if self.options else []
        return list(dict.fromkeys(named))

    def read(self, raw: RawTable, role: Role, on_bad_row: OnBadRow = "error") -> PromptExamples:
        """Raises DataError for a missing column, zero rows, or (unless skipped) a missing field, an empty choice, a label that
        names no choice, a row without a gold answer."""
        reader = ColumnReader(raw, role if self.has_label else "test", on_bad_row, self.columns(), self.label, self)
        bad = reader.bad_rows
        rows = self._rows(reader)
        gold, options = self._gold(reader)
        numbers = reader.labels(None) if self.values is not None else np.full(len(rows), np.nan)
        examples: list[PromptExample] = []
        histories: dict[str, str] = {}  # by group
        for number, row in enumerate(rows):
            if bad.mask[number]:
                continue
            history = histories.get(str(row.get(self.group or "")), "")
            if self._parts.earlier is not None:
                row["history"] = history
            own = self._examples(number, row, options[number], int(gold[number]), float(numbers[number]), bad)
            if self._parts.earlier is not None and own and not bad.mask[number]:
                right = {
                    "answer": next(iter(own[0].answers), ""),
                    "choice": next(iter(own[0].options[own[0].gold :]), ""),
                }
                histories[own[0].group] = history + self._parts.earlier.render({**row, **right})
            examples += own
        bad.usable()  # raises where none is left
        kept = [example for example in examples if not bad.mask[example.row]]
        return PromptExamples(kept, int(bad.mask.sum()), dict(bad.reasons))

    def _rows(self, reader: ColumnReader) -> list[dict[str, object]]:
        """The values that templates read, those that `words` and `replace` name replaced, and the fields of `span`."""
        values = {name: reader.nested(name) for name in self.columns()}
        for name, content in values.items():
            unreadable = np.asarray([isinstance(value, Unreadable) for value in content])
            reader.bad_rows.add(name, "not UTF-8", unreadable)
        rows = [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]
        if (span := self._parts.span) is not None:
            for number, row in enumerate(rows):
                try:
                    row |= span.fields(row)
                except MissingFieldError as error:
                    reader.bad_rows.add(span.text, f"the {error.args[0]} is not in it", _only(number, len(rows)))
        for name, texts in self.replace.items():
            for row in rows:
                row[name] = replaced(row.get(name), texts)
        read = {name: words for name, words in self.words.items() if rows and name in rows[0]}
        for name, words in read.items():  # a column that no template reads decides nothing
            unknown = np.asarray([str(row.get(name)) not in words for row in rows])
            reader.bad_rows.add(name, f"none of {list(words)}", unknown & (ANY not in words))
            for row in rows:
                row[name] = words.get(str(row.get(name)), words.get(ANY, row.get(name)))
        return rows

    def _gold(self, reader: ColumnReader) -> tuple[Int[ndarray, "rows"], list[list[str]]]:
        """The index of each row's right choice, and the entries of its options."""
        count = reader.raw.table.num_rows
        gold = np.zeros(count, dtype=np.int64)
        none: list[list[str]] = [[] for _ in range(count)]
        if self.answer_type != "choice":
            return gold, none
        if self.values is not None:
            distances = np.abs(reader.labels(None)[:, None] - np.asarray(self.values))
            return distances.argmin(1), none
        if self.options is None:
            names = list(self.labels or map(str, range(self.first_label, self.first_label + len(self.choices))))
            texts, own_names = [list(self.choices)] * count, [names] * count
            return choice_labels(reader, own_names, texts, names, self.first_label), none
        names = list(self.labels or (DEFAULT_LABELS if self.has_label else map(str, range(MAX_OPTIONS))))
        texts, own_names = option_lists(reader, self.options, names)
        options = [replaced(each, self.replace.get(self.options, {})) for each in texts]
        if not self.has_label:  # the right ones are known by their texts
            return gold, options
        return choice_labels(reader, own_names, texts, names, self.first_label), options

    def _examples(
        self, number: int, row: dict[str, object], options: Sequence[str], gold: int, value: float, bad: BadRows
    ) -> list[PromptExample]:
        """The examples of a row: one, or one for each turn."""
        try:
            turns = [{}] if self._parts.turns is None else self._parts.turns.fields(row)
            examples = []
            for turn, fields in enumerate(turns):
                example = self._example(number, {**row, **fields}, options, gold, value, turn)
                empty = next((index for index, text in enumerate(example.completions) if not text.strip()), None)
                if empty is not None:
                    bad.add(
                        self._column(empty), "an empty choice", _only(number, len(bad.mask)), reason="an empty choice"
                    )
                examples.append(example)
        except _NoAnswerError:
            column = self.answer_paths[0].partition(".")[0]
            bad.add(column, "no gold answer", _only(number, len(bad.mask)), reason="no gold answer")
            return []
        except MissingFieldError as error:
            column = str(error.args[0]).partition(".")[0]
            bad.add(column, f"no value of the field {error.args[0]!r}", _only(number, len(bad.mask)))
            return []
        return examples

    def _column(self, choice: int) -> str:
        """The column that a choice is read from, for a message."""
        templates = [*self._parts.choices, *filter(None, [self._parts.completion])]
        return self.options or next(iter(templates[choice].columns), self.label)

    def _example(
        self, number: int, row: dict[str, object], options: Sequence[str], gold: int, value: float, turn: int
    ) -> PromptExample:
        parts = self._parts
        given = references(row, self.answer_paths, objects=self.answer_objects)
        if self.answers is not None and not given:
            if self.no_answer is None:
                raise _NoAnswerError
            given = [(self.no_answer,)]
        answers = list(dict.fromkeys(", ".join(phrases) for phrases in given))
        if self.answers is not None:
            row = {**row, "answer": answers[0]}
        if self.options is not None and not self.has_label:
            right = [index for index, text in enumerate(options) if text in answers]
            if not right:
                raise _NoAnswerError
            gold = right[0]
        completions = [template.render(row) for template in parts.choices]
        contexts = [template.render(row) for template in parts.contexts] if not self.options else []
        for text in options:
            completions.append(_required(parts.completion).render({**row, "choice": text}))
            contexts.append(parts.contexts[0].render({**row, "choice": text}))
        if self.answer_type != "choice":
            completions = [_required(parts.completion).render(row)]
        contexts = contexts if len(contexts) > 1 else contexts * len(completions)
        return PromptExample(
            row=number,
            contexts=[_context(*pair) for pair in zip(contexts, completions, strict=True)],
            completions=completions,
            gold=gold,
            group=str(entry(row, self.group.split("."))) if self.group else str(number),
            answers=answers,
            references=given,
            options=options,
            question=str(entry(row, self.question.split("."))) if self.question else "",
            number=value,
            turn=turn,
        )


class _NoAnswerError(Exception):
    """A row has no answer that is right."""


def _context(context: str, completion: str) -> str:
    """Without spaces at its end where the completion brings its own, as behind a field that is empty."""
    return context.rstrip(" ") if completion[:1].isspace() else context


def _required(template: Template | None) -> Template:
    assert template is not None  # checked in __post_init__
    return template


def _only(number: int, count: int) -> Bool[ndarray, "rows"]:
    return np.arange(count) == number
