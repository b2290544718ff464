"""Columns of any Arrow type as texts, and as Python values.

A text column is read as text, whatever type its file has. Rows that are no valid UTF-8 are marked.
"""

import ast
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool
from numpy import ndarray

from protoformer.data.sources.rows import JSON_COLUMN, scalar_text

LITERAL_ERRORS = (ValueError, SyntaxError, TypeError, MemoryError, RecursionError)
CAST_ERRORS = (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError)


def is_text(arrow_type: pa.DataType) -> bool:
    """Whether a column holds text."""
    return pa.types.is_string(arrow_type) or pa.types.is_large_string(arrow_type)


def plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column without dictionary, run-end or extension encoding, and without views."""
    while True:
        kind = column.type
        if isinstance(kind, pa.BaseExtensionType):
            column = pa.chunked_array([chunk.storage for chunk in column.chunks], kind.storage_type)
        elif pa.types.is_dictionary(kind):
            column = column.cast(kind.value_type)
        elif pa.types.is_run_end_encoded(kind):
            column = pa.chunked_array([pc.run_end_decode(chunk) for chunk in column.chunks], kind.value_type)
        elif pa.types.is_string_view(kind):
            return column.cast(pa.large_string())
        elif pa.types.is_binary_view(kind):
            return column.cast(pa.large_binary())
        else:
            return column


def as_text(column: pa.ChunkedArray) -> tuple[pa.ChunkedArray, Bool[ndarray, "rows"]] | None:
    """A column as text, and its rows that are no valid UTF-8 (null in the text); None for a type that has no text: lists,
    structs, times in a zone that is not known. A NaN among numbers is a missing one: null."""
    column = plain(column)
    kind = column.type
    if pa.types.is_floating(kind):
        column = column.cast(pa.float32()) if pa.types.is_float16(kind) else column
        column, kind = pc.if_else(pc.is_nan(column), pa.scalar(None, column.type), column), column.type
    if pa.types.is_nested(kind):
        return None
    if is_text(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return _checked(column)
    if pa.types.is_fixed_size_binary(kind) and not pa.types.is_decimal(kind):
        return _checked(column.cast(pa.large_binary()))
    try:
        text = column.cast(pa.large_string())
    except CAST_ERRORS:
        try:
            values = column.to_pylist()
        except (ValueError, OverflowError):
            return None
        text = pa.chunked_array([pa.array([_text(value) for value in values], pa.large_string())])
    return text, np.zeros(len(column), dtype=bool)


def without_json(column: pa.ChunkedArray, field: pa.Field) -> tuple[pa.ChunkedArray, Bool[ndarray, "rows"]]:
    """A column that the reader of the file wrote as JSON, as texts; and its rows with a list or an object (null in the text).

    Any other column stays as it is.
    """
    if field.metadata != JSON_COLUMN:
        return column, np.zeros(len(column), dtype=bool)
    values = python_values(column, field)
    nested = [isinstance(value, list | dict) for value in values]
    texts = [None if is_nested else scalar_text(value) for value, is_nested in zip(values, nested, strict=True)]
    return pa.chunked_array([pa.array(texts, pa.large_string())]), np.asarray(nested)


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _checked(column: pa.ChunkedArray) -> tuple[pa.ChunkedArray, Bool[ndarray, "rows"]]:
    """Text or bytes as text; bytes that are no UTF-8 are null."""
    invalid = np.zeros(len(column), dtype=bool)
    text_type = pa.string() if is_text(column.type) and pa.types.is_string(column.type) else pa.large_string()
    try:
        text = column.cast(text_type)
        text.validate(full=True)
        return text, invalid
    except CAST_ERRORS:
        values: list[str | None] = []
        for row, value in enumerate(column.cast(pa.large_binary()).to_pylist()):
            try:
                values.append(None if value is None else value.decode())
            except UnicodeDecodeError:
                values.append(None)
                invalid[row] = True
        return pa.chunked_array([pa.array(values, text_type)]), invalid


def python_values(column: pa.ChunkedArray, field: pa.Field) -> list[object]:
    """Nested values: those of lists and structs, and of JSON text. A value that cannot be read is an `Unreadable`."""
    column = plain(column)
    if is_text(column.type):
        values = as_text(column)
        assert values is not None
        strict = field.metadata == JSON_COLUMN
        return [_from_json(value, strict=strict) for value in values[0].to_pylist()]
    try:
        return list(column.to_pylist())
    except (UnicodeDecodeError, ValueError, OverflowError):  # of dates, too
        return [_one(lambda row=row: column[row].as_py()) for row in range(len(column))]


class Unreadable:
    """A value that is no valid Unicode, or that no Python type holds."""

    def __repr__(self) -> str:
        return "no valid text"


def _one(value: Callable[[], object]) -> Any:
    try:
        return value()
    except (UnicodeDecodeError, ValueError, OverflowError):
        return Unreadable()


def _from_json(value: str | None, *, strict: bool) -> Any:
    """JSON text as its value; a text that is no list or object stays a text, unless the reader wrote it as JSON.

    Lists and dictionaries as Python prints them, which tables that pandas wrote as CSV hold, are read too.
    """
    if value is None or not (strict or value.lstrip()[:1] in ("[", "{")):
        return value
    for read, errors in ((json.loads, (ValueError, RecursionError)), (ast.literal_eval, LITERAL_ERRORS)):
        try:
            return read(value.strip())
        except errors:
            continue
    return value
