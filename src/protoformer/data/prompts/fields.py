"""Fields of prompts that the columns of a row hold indirectly.

Replaced texts, words for values, the text around a phrase that is named by its position, the turns of a conversation.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass
from dataclasses import fields as fields_of
from typing import Any, Self

from protoformer.errors import ConfigurationError
from protoformer.text.prompts.template import MissingFieldError, Template, entry

ANY = "*"  # of `words`: every value that is not named


class Declared:
    """A dataclass of texts that a mapping of the yaml fills."""

    @classmethod
    def of(cls, values: Mapping[str, Any], key: str) -> Self:
        """Raises ConfigurationError for an unknown or a missing key."""
        known = {each.name: each for each in fields_of(cls)}  # type: ignore[arg-type]  # subclasses are dataclasses
        if unknown := [name for name in values if name not in known]:
            raise ConfigurationError(f"{key}: no key {unknown[0]!r}; there are {', '.join(known)}")
        if missing := [name for name, each in known.items() if name not in values and each.default is MISSING]:
            raise ConfigurationError(f"{key}.{missing[0]} is not set")
        return cls(**values)


@dataclass(frozen=True)
class Span(Declared):
    """A phrase of the column `text`, from character (or word) number `start` on; it gives the fields `before` and `after`.

    The phrase may stand further on: positions of published data sets are sometimes off by a word.
    """

    text: str
    start: str
    phrase: str
    unit: str = "characters"

    def __post_init__(self) -> None:
        if self.unit not in ("characters", "words"):
            raise ConfigurationError(f"task.rows.span.unit={self.unit}: characters or words")

    @property
    def columns(self) -> list[str]:
        return [self.text, self.start, self.phrase]

    def fields(self, row: Mapping[str, object]) -> dict[str, str]:
        """Raises MissingFieldError where the phrase does not stand there."""
        text, start, phrase = (entry(row, [name]) for name in self.columns)
        if self.unit == "words":
            words = list(re.finditer(r"\S+", text))
            start = words[start].start() if start < len(words) else len(text)
        position = str(text).lower().find(str(phrase).lower(), int(start))
        if position < 0:
            raise MissingFieldError(self.phrase)
        return {"before": text[:position], "after": text[position + len(phrase) :]}


@dataclass(frozen=True)
class Turns(Declared):
    """A conversation: lists of questions and of answers (of one answer, or of several that count as right). `answers` may be
    several paths, one for each annotator; whose texts are all empty has answered nothing.

    Each turn is an example, with the fields `question`, `answers` and `history`, the turns before it as `text` says.
    """

    questions: str
    answers: str | Sequence[str]
    text: str
    separator: str = "\n\n"

    @property
    def columns(self) -> list[str]:
        return [path.partition(".")[0] for path in (self.questions, *self._answer_paths)]

    @property
    def _answer_paths(self) -> Sequence[str]:
        return [self.answers] if isinstance(self.answers, str) else self.answers

    def fields(self, row: Mapping[str, object]) -> list[dict[str, object]]:
        """Fields of each turn. Raises MissingFieldError where there is not an answer for each question."""
        questions = entry(row, self.questions.split("."))
        annotators = [self._of_annotator(row, path, len(questions)) for path in self._answer_paths]
        answers = [[text for given in each for text in given] for each in zip(*filter(None, annotators), strict=True)]
        if not answers:
            raise MissingFieldError(self._answer_paths[0])
        template, history, turns = Template(self.text), "", []
        for question, texts in zip(questions, answers, strict=True):
            turns.append({"question": question, "answers": texts, "history": history})
            first = next((text for text in texts if text), "")
            history += template.render({"question": question, "answer": first}) + self.separator
        return turns

    def _of_annotator(self, row: Mapping[str, object], path: str, turns: int) -> list[list[str]]:
        """The texts for each turn; none where all are empty."""
        answers = entry(row, path.split("."))
        if not isinstance(answers, Sequence) or isinstance(answers, str):
            raise MissingFieldError(path)
        texts = [given if isinstance(given, list) else [given] for given in answers]
        if not any(text for given in texts for text in given):
            return []
        if len(texts) != turns:
            raise MissingFieldError(path)
        return texts


def replaced(value: Any, replacements: Mapping[str, str]) -> Any:
    """A text, or the texts of a list, with each of the texts replaced, one after another."""
    if isinstance(value, list):
        return [replaced(each, replacements) for each in value]
    if isinstance(value, str):
        for old, new in replacements.items():
            value = value.replace(old, new)
    return value
