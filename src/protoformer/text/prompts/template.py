"""Prompt templates: texts with named fields, which the columns of a row fill. Values, no logic.

{premise}                    a column of the row
{answers.text}               an entry of a column that holds an object
{premise|no_full_stop}       passed through a filter, or several, from left to right
{{ and }}                    braces
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from protoformer.errors import ConfigurationError

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
}


class MissingFieldError(KeyError):
    """A field that a row does not have; the argument is its name."""


@dataclass(frozen=True)
class _Field:
    path: tuple[str, ...]
    filters: tuple[str, ...]


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
        path, *filters = (part.strip() for part in text.split("|"))
        if unknown := [name for name in filters if name not in FILTERS]:
            raise ConfigurationError(
                f"template {self.text!r}: no filter {unknown[0]!r}; there are {', '.join(FILTERS)}"
            )
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
    value: Any = row
    for name in field.path:
        value = value.get(name) if isinstance(value, Mapping) else None
        if value is None:
            raise MissingFieldError(".".join(field.path))
    if isinstance(value, Sequence) and not isinstance(value, str):
        value = " ".join(map(str, value))
    text = str(value)
    for name in field.filters:
        text = FILTERS[name](text)
    return text
