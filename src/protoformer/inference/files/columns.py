"""Which columns of a file hold the texts of queries, and rows as queries."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from protoformer.data.examples.options import options_of
from protoformer.errors import ConfigurationError
from protoformer.modules.queries import Query, QueryColumns

# names of columns that usually hold a text, or two
TEXTS = ("text", "sentence", "sentence1", "question", "premise", "review", "content", "context", "document")
PAIRS = {
    "text": ("pair", "text_b"),
    "text_a": ("text_b",),
    "sentence1": ("sentence2",),
    "premise": ("hypothesis",),
    "question": ("context", "sentence"),
    "question1": ("question2",),
}
CHOICES = ("choices", "options", "endings", "answers")  # columns of lists


@dataclass(frozen=True)
class ColumnOptions:
    """The columns that the user names (`--text-column`, `--pair-column`, `--choices-column`)."""

    text: str | None = None
    pair: str | None = None
    choices: Sequence[str] = ()


class RowError(ValueError):
    """A row that is no query; the message says why."""


def query_columns(
    own: QueryColumns, available: Sequence[str], options: ColumnOptions, name: str, *, of_run: bool, chooses: bool
) -> QueryColumns:
    """The columns of a file: those that the user names, else those of the model's own data set, else usual names.

    `chooses`: the model selects one of several choices. Raises ConfigurationError, which names the columns that there are.
    """
    for option, column in (("--text-column", options.text), ("--pair-column", options.pair)):
        if column is not None and column not in available:
            raise _no_column(name, option, column, available)
    for column in options.choices:
        if column not in available:
            raise _no_column(name, "--choices-column", column, available)
    texts = _texts(own, available, options, name)
    pair = _pair(own, texts, available, options, name, of_run=of_run)
    choices, listed = _choices(own, available, options, name) if chooses else ((), None)
    stem = own.stem if own.stem in available else None
    return QueryColumns(texts, pair, choices, listed, stem, own.blank)


def _no_column(name: str, option: str, column: str, available: Sequence[str]) -> ConfigurationError:
    return ConfigurationError(f"{option} {column}: {name} has no such column; it has {', '.join(available)}")


def _texts(own: QueryColumns, available: Sequence[str], options: ColumnOptions, name: str) -> Sequence[str]:
    if options.text is not None:
        return [options.text]
    if all(column in available for column in own.texts):
        return own.texts
    usual = [column for column in TEXTS if column in available]
    usual = [column for column in PAIRS if column in available and set(PAIRS[column]) & set(available)] or usual
    if usual or len(available) == 1:
        return [(usual or list(available))[0]]
    expected = " and ".join(map(repr, own.texts))
    raise ConfigurationError(
        f"{name}: no column {expected}; it has {', '.join(available)}: name the one with the text by --text-column"
    )


def _pair(
    own: QueryColumns,
    texts: Sequence[str],
    available: Sequence[str],
    options: ColumnOptions,
    name: str,
    *,
    of_run: bool,
) -> str | None:
    if options.pair is not None:
        if own.pair is None and of_run:
            raise ConfigurationError(f"--pair-column {options.pair}: this run's task takes one text")
        return options.pair
    if own.pair is None or (own.pair in available and own.pair not in texts):
        return own.pair
    usual = [column for column in PAIRS.get(texts[0], ()) if column in available]
    if usual or not of_run:
        return usual[0] if usual else None
    raise ConfigurationError(
        f"{name}: no column {own.pair!r} beside {texts[0]!r}; it has {', '.join(available)}: this run's task takes two "
        "texts, name the second by --pair-column"
    )


def _choices(
    own: QueryColumns, available: Sequence[str], options: ColumnOptions, name: str
) -> tuple[Sequence[str], str | None]:
    if options.choices:
        return (options.choices, None) if len(options.choices) > 1 else ((), options.choices[0])
    if own.options in available:
        return (), own.options
    if own.options is None and all(column in available for column in own.choices):
        return own.choices, None
    listed = next((column for column in CHOICES if column in available), None)
    if listed is None:
        expected = own.options or ", ".join(own.choices)
        raise ConfigurationError(
            f"{name}: no choices ({expected}); it has {', '.join(available)}: name a column of lists, or a column for each "
            "choice, by --choices-column"
        )
    return (), listed


def as_query(row: Mapping[str, object], columns: QueryColumns, top: int) -> Query:
    """A row as a query. Raises RowError where a text is missing."""
    text = " ".join(row_text(row, column) for column in columns.texts)
    pair = None if columns.pair is None else row_text(row, columns.pair)
    choices = [row_text(row, column) for column in columns.choices]
    if columns.options is not None:
        choices = _listed(row, columns.options)
    if columns.stem is not None:
        stem = row_text(row, columns.stem)
        choices = [f"{stem} {choice}" for choice in choices]
    if columns.blank is not None:
        text, blank, after = text.partition(columns.blank)
        if not blank:
            raise RowError(f"column {columns.texts[-1]!r}: no blank {columns.blank!r}")
        text, choices = text.rstrip(), [f"{choice}{after}" for choice in choices]
    return Query(text, pair, choices, top)


def row_text(row: Mapping[str, object], column: str) -> str:
    """The text of a row in a column. Raises RowError where there is none."""
    value = row.get(column)
    if value is None:
        raise RowError(f"column {column!r}: no text")
    if isinstance(value, list | dict):
        raise RowError(f"column {column!r}: a {'list' if isinstance(value, list) else 'struct'}, not a text")
    text = value if isinstance(value, str) else str(value)
    if not text.strip():
        raise RowError(f"column {column!r}: empty text")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise RowError(f"column {column!r}: not valid Unicode") from None
    return text


def _listed(row: Mapping[str, object], column: str) -> list[str]:
    value = row.get(column)
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):  # a cell of a CSV
        try:
            value = json.loads(value)
        except ValueError:
            raise RowError(f"column {column!r}: not a list in JSON") from None
    parsed = options_of(value) if value is not None else None
    if parsed is None or len(parsed[0]) < 2 or not all(choice.strip() for choice in parsed[0]):
        raise RowError(f"column {column!r}: not a list of at least two texts")
    return parsed[0]
