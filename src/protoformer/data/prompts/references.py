"""The answers that count as right, as the columns of a row hold them."""

from collections.abc import Mapping, Sequence
from typing import Any

Reference = tuple[str, ...]  # a phrase, or several


def references(row: Mapping[str, object], paths: Sequence[str], *, objects: bool) -> list[Reference]:
    """The answers at these paths: texts, lists of them, or `objects`. Those without text are left out."""
    answers: list[Reference] = []
    for path in paths:
        value: Any = row
        for name in path.split("."):
            value = value.get(name) if isinstance(value, Mapping) else None
        answers += _of_objects(value) if objects else _of_texts(value)
    return answers


def _of_texts(value: Any) -> list[Reference]:
    given = value if isinstance(value, list) else [value]
    return [(str(text),) for text in given if text is not None and str(text).strip()]


def _of_objects(value: Any) -> list[tuple[str, ...]]:
    """Answers of DROP: an object with `number`, `spans` and `date` (`day`, `month`, `year`), or columns of such objects."""
    if not isinstance(value, Mapping):
        return []
    if isinstance(value.get("number"), list):
        rows = zip(*(value.get(name) or [] for name in ("number", "spans", "date")), strict=True)
        return [
            answer for row in rows for answer in _of_objects(dict(zip(("number", "spans", "date"), row, strict=True)))
        ]
    if number := str(value.get("number") or ""):
        return [(number,)]
    if spans := [str(span) for span in value.get("spans") or [] if str(span).strip()]:
        return [tuple(spans)]
    date = value.get("date") or {}
    text = " ".join(str(date.get(name) or "") for name in ("day", "month", "year")).strip()
    return [(" ".join(text.split()),)] if text else []
