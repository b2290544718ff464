"""JSON: an object a line; or one array of objects; or SQuAD's own nested file; or one object that holds an array of rows."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from protoformer.data.sources.rows import FileRow
from protoformer.data.sources.text_files import open_text
from protoformer.errors import DataError

ROW_KEYS = ("data", "rows", "examples")  # of a file that is one object


class _DoubledKeyError(ValueError):
    """A key that stands twice in one object."""


def rows(path: Path, encoding: str | None) -> Iterator[FileRow]:
    """The rows of a file, in the form that its beginning shows. Rows that cannot be read are broken.

    Raises DataError for a file that is not JSON, and for one object that holds a table by its columns.
    """
    with open_text(path, encoding) as file:
        first = next((line for line in file if line.strip()), "")
        more = any(line.strip() for line in file)
    value, problem = _parsed(first)
    if isinstance(value, dict) and (more or not (_nested_rows(value) or _is_table(value))):
        yield from _line_rows(path, encoding)
        return
    with open_text(path, encoding) as file:
        text = file.read()
    values, whole_problem = _values(text)
    if not whole_problem and values:
        yield from _value_rows(values, path)
    elif problem is None or first.lstrip()[:1] == "[":
        raise DataError(f"{path}: not JSON ({whole_problem or 'no value'})")
    else:
        yield from _line_rows(path, encoding)


def _line_rows(path: Path, encoding: str | None) -> Iterator[FileRow]:
    with open_text(path, encoding) as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            value, problem = _parsed(line)
            if problem is None and not isinstance(value, dict):
                problem = f"{_kind(value)}, where an object is expected"
            yield FileRow(value if problem is None else {}, number, problem)


def _value_rows(values: list[Any], path: Path) -> Iterator[FileRow]:
    """Rows of whole values: of an array, of what an object holds, or objects one after another."""
    if len(values) == 1:
        (value,) = values
        if isinstance(value, dict):
            values = _nested_rows(value) or [value]
            if values == [value] and _is_table(value):
                raise DataError(
                    f"{path}: one object that holds a whole table (as pandas' to_json writes it); expected an object a row: "
                    "to_json(path, orient='records', lines=True)"
                )
        elif isinstance(value, list):
            values = value
    if values and isinstance(values[0], dict) and isinstance(values[0].get("paragraphs"), list):
        yield from _squad_rows(values, path)
        return
    for value in values:
        is_row = isinstance(value, dict)
        yield FileRow(value if is_row else {}, None, None if is_row else f"{_kind(value)}, where an object is expected")


def _nested_rows(value: dict[str, Any]) -> list[Any]:
    """The array of rows that an object holds (`data` in SQuAD's own file)."""
    arrays = [value[key] for key in ROW_KEYS if isinstance(value.get(key), list)]
    return arrays[0] if arrays and all(isinstance(each, dict) for each in arrays[0]) else []


def _is_table(value: dict[str, Any]) -> bool:
    """Whether an object is a table by columns or by index, each as a list or an object, or its columns apart from its rows."""
    parts = list(value.values())
    if {"columns", "data"} <= value.keys() and all(isinstance(part, list) for part in parts):
        return True
    if len(parts) < 2 or not isinstance(parts[0], list | dict) or len(parts[0]) < 2:
        return False
    if isinstance(parts[0], list):
        return all(isinstance(part, list) and len(part) == len(parts[0]) for part in parts)
    return all(isinstance(part, dict) and part.keys() == parts[0].keys() for part in parts)


def _squad_rows(articles: list[dict[str, Any]], path: Path) -> Iterator[FileRow]:
    """SQuAD's articles > paragraphs > questions as the hub's rows: a question each."""
    for a, article in enumerate(articles):
        paragraphs = article.get("paragraphs") if isinstance(article, dict) else None
        if not isinstance(paragraphs, list):
            raise DataError(f"{path}: data[{a}] has no list `paragraphs`, so it is no article of SQuAD's own file")
        for p, paragraph in enumerate(paragraphs):
            where = f"{path}: data[{a}].paragraphs[{p}]"
            questions = paragraph.get("qas") if isinstance(paragraph, dict) else None
            if not isinstance(questions, list):
                raise DataError(f"{where} has no list `qas`, so it is no paragraph of SQuAD's own file")
            for question in questions:
                if not isinstance(question, dict):
                    raise DataError(f"{where}.qas holds {_kind(question)}, where an object is expected")
                row = {
                    "id": question.get("id"),
                    "title": article.get("title"),
                    "context": paragraph.get("context"),
                    "question": question.get("question"),
                    "answers": question.get("answers"),
                }
                yield FileRow(row, None, _contradiction(question))


def _contradiction(question: dict[str, object]) -> str | None:
    """What v2.0's `is_impossible` and the answers say against each other."""
    answers, impossible = question.get("answers"), question.get("is_impossible")
    if not isinstance(impossible, bool) or answers is None or impossible != bool(answers):
        return None
    return f"question {question.get('id')!r}: is_impossible is {str(impossible).lower()}, and it has " + (
        "an answer" if answers else "none"
    )


def _values(text: str) -> tuple[list[object], str | None]:
    """All JSON values of a text, one after another; and what is wrong."""
    decoder = json.JSONDecoder(object_pairs_hook=_object)
    values: list[object] = []
    position = 0
    while position < len(text):
        if text[position].isspace():
            position += 1
            continue
        try:
            value, position = decoder.raw_decode(text, position)
        except (ValueError, RecursionError) as error:
            return values, _message(error)
        values.append(value)
    return values, None


def _parsed(line: str) -> tuple[Any, str | None]:
    try:
        return json.loads(line, object_pairs_hook=_object), None
    except (ValueError, RecursionError) as error:
        return None, f"not JSON ({_message(error)})" if not isinstance(error, _DoubledKeyError) else str(error)


def _message(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        position = f"line {error.lineno}, column {error.colno}" if error.lineno > 1 else f"column {error.colno}"
        return f"{error.msg}, {position}"
    return "nested too deeply" if isinstance(error, RecursionError) else str(error)


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    value = dict(pairs)
    if len(value) < len(pairs):
        names = [name for name, _ in pairs]
        doubled = next(name for name in names if names.count(name) > 1)
        raise _DoubledKeyError(f"column {doubled!r} stands twice")
    return value


def _kind(value: object) -> str:
    names = {list: "an array", str: "a text", bool: "a truth value", type(None): "null", dict: "an object"}
    return names.get(type(value), "a number")
