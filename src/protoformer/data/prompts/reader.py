"""Examples phrased as text (arXiv 2005.14165, section 2.4 and appendix G): contexts and completions from templates."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from jaxtyping import Int
from numpy import ndarray

from protoformer.data.examples.columns import BadRows, ColumnReader, OnBadRow
from protoformer.data.examples.options import choice_labels, option_lists
from protoformer.data.examples.values import Unreadable
from protoformer.data.sources.source import DatasetRef, RawTable, Role
from protoformer.errors import ConfigurationError
from protoformer.text.prompts.template import MissingFieldError, Template

AnswerType = Literal["choice", "completion", "text"]
DEFAULT_LABELS = "ABCDEFGHIJ"


@dataclass(frozen=True)
class PromptExample:
    """A row as text: `contexts[i] + completions[i]` is choice i, of which `gold` is right (-1: hidden).

    Where the answer is written by the model, `answers` are those that count as right, and the one completion is the first of
    them, as a shot shows it. Examples of one `group` are no independent measurements: they share a passage.
    """

    row: int
    contexts: Sequence[str]
    completions: Sequence[str]
    gold: int
    group: str
    answers: Sequence[str] = ()

    @property
    def shot(self) -> str:
        """The example with its right answer, as a demonstration."""
        return self.contexts[self.gold] + self.completions[self.gold]


@dataclass(frozen=True)
class PromptExamples:
    """The usable rows of a split, and how many were skipped, by reason."""

    examples: Sequence[PromptExample]
    skipped: int = 0
    reasons: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class PromptReader(DatasetRef):
    """Reader of rows as prompts by templates (`text.prompts.template`).

    There are three types of answer: a choice among completions (`choices` are a template each; `options` is a column of lists,
    of which each entry fills the field `choice` of the template `completion`), the one right `completion`, or a text that the
    model writes and that is compared with `answers`, the texts of this column (or entry of one, as in `answers.text`), the
    first of which fills the field `answer` of `completion` in a shot.

    `context` is the template of what stands in front of a completion. `contexts` in its place are a context for each choice:
    where choices differ in the context and the same text follows (partial evaluation, Trinh and Le 2018). `label` is the column
    of the right choice: one of the names `labels`, a number from `first_label` on, or the choice's text. `words` are what
    stands for the values of a column, column by column. `description` stands once before all shots. `separator` stands between
    description, shots and prompt. `group` is the column of passages that several rows share.
    Raises ConfigurationError for templates that do not fit together.
    """

    context: str = ""
    contexts: Sequence[str] = ()
    choices: Sequence[str] = ()
    options: str | None = None
    completion: str | None = None
    answers: str | None = None
    label: str = "label"
    labels: Sequence[str] | None = None
    first_label: int = 0
    words: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    description: str = ""
    separator: str = "\n\n"
    group: str | None = None

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
        for text in (self.context, *self.contexts, *self.choices, self.completion or ""):
            Template(text)  # raises for one that cannot be read

    @property
    def answer_type(self) -> AnswerType:
        if self.choices or self.options:
            return "choice"
        return "completion" if self.answers is None else "text"

    def read(self, raw: RawTable, role: Role, on_bad_row: OnBadRow = "error") -> PromptExamples:
        """Raises DataError for a missing column, zero rows, or (unless skipped) a missing field, an empty choice, a label that
        names no choice, a row without a gold answer."""
        templates = [Template(text) for text in (self.context, *self.contexts, *self.choices, self.completion or "")]
        columns = [name for each in templates for name in each.columns if name not in ("choice", "answer")]
        needed = dict.fromkeys([*columns, *(filter(None, (self.options, self.answer_column, self.group)))])
        reader = ColumnReader(
            raw, "test" if self.answer_type != "choice" else role, on_bad_row, list(needed), self.label, self
        )
        rows = self._rows(reader, list(needed))
        bad = reader.bad_rows
        gold, options = self._gold(reader)
        examples = [
            self._example(number, row, options[number], int(gold[number]), bad) if not bad.mask[number] else None
            for number, row in enumerate(rows)
        ]
        kept = [example for number, example in enumerate(examples) if example is not None and not bad.mask[number]]
        bad.usable()  # raises where none is left
        return PromptExamples(kept, len(rows) - len(kept), dict(bad.reasons))

    @property
    def answer_column(self) -> str | None:
        return None if self.answers is None else self.answers.partition(".")[0]

    def _rows(self, reader: ColumnReader, columns: Sequence[str]) -> list[dict[str, object]]:
        """The values that templates read; a value that `words` names is replaced."""
        values = {name: reader.nested(name) for name in columns}
        for name, content in values.items():
            unreadable = np.asarray([isinstance(value, Unreadable) for value in content])
            reader.bad_rows.add(name, "not UTF-8", unreadable)
        rows = [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]
        for name, words in self.words.items():
            unknown = np.asarray([str(row.get(name)) not in words for row in rows])
            reader.bad_rows.add(name, f"none of {list(words)}", unknown)
            for row in rows:
                row[name] = words.get(str(row.get(name)), row.get(name))
        return rows

    def _gold(self, reader: ColumnReader) -> tuple[Int[ndarray, "rows"], list[list[str]]]:
        """The index of each row's right choice, and the entries of its options."""
        count = reader.raw.table.num_rows
        if self.answer_type != "choice":
            return np.zeros(count, dtype=np.int64), [[] for _ in range(count)]
        if self.options is not None:
            names = list(self.labels or DEFAULT_LABELS)
            texts, own_names = option_lists(reader, self.options, names)
        else:
            names = list(self.labels or map(str, range(self.first_label, self.first_label + len(self.choices))))
            texts, own_names = [list(self.choices)] * count, [names] * count
        gold = choice_labels(reader, own_names, texts, names, self.first_label)
        return gold, texts if self.options is not None else [[] for _ in range(count)]

    def _example(
        self, number: int, row: Mapping[str, object], options: Sequence[str], gold: int, bad: BadRows
    ) -> PromptExample | None:
        mask = np.arange(len(bad.mask)) == number
        answers = self._answers(row)
        if self.answers is not None:
            if not answers:
                bad.add(str(self.answer_column), "no gold answer", mask, reason="no gold answer")
                return None
            row = {**row, "answer": answers[0]}
        try:
            completions = [Template(text).render(row) for text in self.choices]
            completions += [Template(str(self.completion)).render({**row, "choice": text}) for text in options]
            if self.answer_type != "choice":
                completions = [Template(str(self.completion)).render(row)]
            contexts = [Template(text).render(row) for text in self.contexts] or [Template(self.context).render(row)]
        except MissingFieldError as error:
            bad.add(str(error.args[0]).partition(".")[0], f"no value of the field {error.args[0]!r}", mask)
            return None
        if not all(text.strip() for text in completions):
            bad.add(self.options or self.label, "an empty choice", mask, reason="an empty choice")
            return None
        contexts = contexts if self.contexts else contexts * len(completions)
        group = str(row[self.group]) if self.group else str(number)
        return PromptExample(number, contexts, completions, gold, group, answers)

    def _answers(self, row: Mapping[str, object]) -> list[str]:
        """The texts that count as right: of a column of one text or of a list, or an entry of a column of objects."""
        if self.answers is None:
            return []
        value: Any = row
        for name in self.answers.split("."):
            value = value.get(name) if isinstance(value, Mapping) else None
        texts = value if isinstance(value, list) else [value]
        return [str(text) for text in texts if text is not None and str(text).strip()]
