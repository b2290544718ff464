"""Prompt templates: texts with named fields, which the columns of a row fill. Values, no logic.

{premise}                    a column of the row
{answers.text}               an entry of a column that holds an object
{premise|no_full_stop}       passed through a filter, or several, from left to right
{query|before:@placeholder}  through a filter with a text, which holds no brace and no bar
{{ and }}                    braces
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from protoformer.errors import ConfigurationError
from protoformer.text.words.detokenizers import InvertibleDetokenizer

PART = re.compile(r"\{\{|\}\}|\{([^{}]*)\}")  # an escaped brace, or a field


def _no_full_stop(text: str) -> str:
    return text.rstrip().removesuffix(".")


def _lower_first(text: str) -> str:
    return text[:1].lower() + text[1:]


def _upper_first(text: str) -> str:
    return text[:1].upper() + text[1:]


def _last_word(text: str) -> str:
    return text.rstrip().rpartition(" ")[2]


def _without_last_word(text: str) -> str:
    return text.rstrip().rpartition(" ")[0]


def _before_blank(text: str) -> str:
    return text.partition("_")[0].rstrip()


def _after_blank(text: str) -> str:
    return text.partition("_")[2]


def _lower_article(text: str) -> str:
    return _lower_first(text) if text.partition(" ")[0] in ARTICLES else text


def _first_words(text: str, count: str) -> str:
    return " ".join(text.split(" ")[: int(count)])


def _detokenized_rest(text: str) -> str:
    """What stands behind a word, in the place of which there is a letter."""
    return InvertibleDetokenizer(PENN)(f"x{text}")[1:]


PENN = ("latex_quotes", "punctuation", "clitics", "negations")  # of texts in the tokens of the Penn Treebank
# words that are written small where they do not begin a sentence
ARTICLES = frozenset(["A", "An", "The", "He", "She", "It", "They", "My", "His", "Her", "Its", "Our", "Their"])
FILTERS: Mapping[str, Callable[[str], str]] = {
    "strip": str.strip,
    "lower": str.lower,
    "no_full_stop": _no_full_stop,
    "lower_first": _lower_first,
    "upper_first": _upper_first,
    "last_word": _last_word,
    "without_last_word": _without_last_word,
    "before_blank": _before_blank,
    "after_blank": _after_blank,
    "single_spaces": lambda text: " ".join(text.split()),
    "lower_article": _lower_article,
    "detokenized": InvertibleDetokenizer(PENN),
    "detokenized_rest": _detokenized_rest,
}
FILTERS_WITH_TEXT: Mapping[str, Callable[[str, str], str]] = {  # such as `before:@placeholder`
    "before": lambda text, mark: text.partition(mark)[0],
    "after": lambda text, mark: text.partition(mark)[2],
    "first_words": _first_words,
}


def _filter(name: str) -> Callable[[str], str]:
    """A filter by its name, or name and text. Raises KeyError for an unknown one, ValueError for a text that does not fit."""
    first, colon, argument = name.partition(":")
    if not colon:
        return FILTERS[name]
    if first == "first_words" and not argument.isdecimal():
        raise ValueError("first_words takes a number, such as first_words:400")
    return partial(_with_text, FILTERS_WITH_TEXT[first], argument)


def _with_text(function: Callable[[str, str], str], argument: str, text: str) -> str:
    return function(text, argument)


class MissingFieldError(KeyError):
    """A field that a row does not have; the argument is its name."""


@dataclass(frozen=True)
class _Field:
    path: tuple[str, ...]
    filters: tuple[Callable[[str], str], ...]


class Template:
    """A text with fields. Raises ConfigurationError for an unknown filter, and braces that do not close."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._parts: list[str | _Field] = []
        position = 0
        for match in PART.finditer(text):
            self._add_literal(text[position : match.start()])
            position = match.end()
            if match[1] is None:
                self._parts.append(match[0][0])
            else:
                self._parts.append(self._field(match[1]))
        self._add_literal(text[position:])

    def _add_literal(self, text: str) -> None:
        if "{" in text or "}" in text:
            raise ConfigurationError(f"template {self.text!r}: a brace that stands alone; write {{{{ or }}}}")
        if text:
            self._parts.append(text)

    def _field(self, text: str) -> _Field:
        path, *names = (part.strip() for part in text.split("|"))
        filters = []
        for name in names:
            try:
                filters.append(_filter(name))
            except KeyError:
                known = ", ".join([*FILTERS, *(f"{each}:TEXT" for each in FILTERS_WITH_TEXT)])
                raise ConfigurationError(f"template {self.text!r}: no filter {name!r}; there are {known}") from None
            except ValueError as error:
                raise ConfigurationError(f"template {self.text!r}: {error}") from None
        if not path:
            raise ConfigurationError(
                f"template {self.text!r}: a field without a name; braces are written {{{{ and }}}}"
            )
        return _Field(tuple(path.split(".")), tuple(filters))

    @property
    def columns(self) -> list[str]:
        """The columns that are read, without the entries of objects."""
        return list(dict.fromkeys(part.path[0] for part in self._parts if isinstance(part, _Field)))

    def render(self, row: Mapping[str, object]) -> str:
        """The text of a row. Raises MissingFieldError for a field that it does not have, or whose value is null."""
        return "".join(part if isinstance(part, str) else _value(part, row) for part in self._parts)


def _value(field: _Field, row: Mapping[str, object]) -> str:
    value = entry(row, field.path)
    if isinstance(value, Sequence) and not isinstance(value, str):
        value = " ".join(map(str, value))
    text = str(value)
    for function in field.filters:
        text = function(text)
    return text


def entry(row: Mapping[str, object], path: Sequence[str]) -> Any:
    """The value at a path of names. Raises MissingFieldError where there is none, or null."""
    value: Any = row
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
        if value is None:
            raise MissingFieldError(".".join(path))
    return value
