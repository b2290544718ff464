"""Does a plain value fit an annotation? Values come from yaml and the command line: numbers, words, lists, mappings."""

import types
from typing import Any, Literal, Union, get_args, get_origin

from protoformer.config.signatures import Opaque
from protoformer.config.suggest import advice
from protoformer.errors import ConfigurationError

MISSING = "???"  # how yaml says that a value must be given
WORDS = {bool: "true or false", int: "a whole number", float: "a number", str: "text", dict: "a mapping"}


class KeyedError(ConfigurationError):
    """A key or value that is wrong; `key` is its dotted path."""

    def __init__(self, key: str, message: str) -> None:
        super().__init__(message)
        self.key = key


class MisfitError(Exception):
    """The value is of another type."""


def fitted(value: Any, annotation: Any, key: str) -> Any:
    """`value` as the annotation wants it (1 for a float becomes 1.0, 1e3 for an int 1000, "1e-5" for a float 1e-5).

    Raises KeyedError naming the key, the value, and what is allowed.
    """
    try:
        return _fit(value, annotation)
    except MisfitError:
        pass
    words = [option for option in _options(annotation) if isinstance(option, str)]
    if words and isinstance(value, str):
        others = _described(annotation, words=False)
        hint = f"{advice(value, words)}{f', or {others}' if others else ''}"
        raise KeyedError(key, f"{key}={_spelled(value)} is not one of its values; {hint}")
    quoted = "; yaml reads no and yes as false and true, quote them" if _holds_bool(value) else ""
    raise KeyedError(key, f"{key}={_spelled(value)} does not fit; it wants {described(annotation)}{quoted}")


def _holds_bool(value: Any) -> bool:
    return isinstance(value, list | tuple) and any(isinstance(item, bool) for item in value)


def described(annotation: Any) -> str:
    """What an annotation allows, in words."""
    return _described(annotation, words=True)


def _fit(value: Any, annotation: Any) -> Any:
    if annotation is Any:
        return value
    origin, args = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        return _fit_union(value, args)
    if origin is Literal:
        for option in args:
            if type(option) is type(value) and option == value:
                return value
        raise MisfitError
    if origin is list or annotation is list:
        if not isinstance(value, list | tuple):
            raise MisfitError
        return [_fit(item, args[0]) if args else item for item in value]
    if origin is tuple or annotation is tuple:
        return _fit_tuple(value, args)
    if origin is dict or annotation is dict:
        if not isinstance(value, dict):
            raise MisfitError
        return {_fit(k, args[0]): _fit(v, args[1]) for k, v in value.items()} if args else value
    return _fit_plain(value, annotation)


def _fit_union(value: Any, args: tuple[Any, ...]) -> Any:
    for exactly in (True, False):  # a value that fits as it stands is not converted
        for option in args:
            try:
                found = _fit(value, option)
            except MisfitError:
                continue
            if not exactly or type(found) is type(value):
                return found
    raise MisfitError


def _fit_tuple(value: Any, args: tuple[Any, ...]) -> list[Any]:
    if not isinstance(value, list | tuple) or (args and len(args) != len(value)):
        raise MisfitError
    return [_fit(item, kind) for item, kind in zip(value, args, strict=True)] if args else list(value)


def _fit_plain(value: Any, kind: Any) -> Any:
    if kind is type(None) and value is None:
        return None
    if kind is bool and isinstance(value, bool):
        return value
    if kind is str and isinstance(value, str | int) and not isinstance(value, bool):
        return str(value)
    if kind in (int, float) and isinstance(value, int | float | str) and not isinstance(value, bool):
        return _number(value, kind)
    raise MisfitError


def _number(value: int | float | str, kind: type[int] | type[float]) -> int | float:
    try:
        number = float(value)
    except ValueError:
        raise MisfitError from None
    if kind is float:
        return number
    if isinstance(value, int):
        return value
    if not number.is_integer():
        raise MisfitError
    return int(number)


def _options(annotation: Any) -> list[Any]:
    if get_origin(annotation) is Literal:
        return list(get_args(annotation))
    if get_origin(annotation) in (Union, types.UnionType):
        return [option for part in get_args(annotation) for option in _options(part)]
    return []


def _described(annotation: Any, words: bool) -> str:
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return " or ".join(_spelled(option) for option in args if words or not isinstance(option, str))
    if origin in (Union, types.UnionType):
        return " or ".join(part for part in (_described(option, words) for option in args) if part)
    if annotation is type(None):
        return "null"
    if origin is list or annotation is list:
        return f"a list (of {_described(args[0], True)})" if args and args[0] is not Any else "a list"
    if origin is tuple:
        return f"a list of {len(args)}: {', '.join(_described(option, True) for option in args)}"
    if annotation is Opaque:
        return "nothing from yaml (the program gives it)"
    return WORDS.get(dict if origin is dict else annotation, "any value")


def _spelled(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return repr(value) if isinstance(value, str) and (not value or value != value.strip()) else str(value)
