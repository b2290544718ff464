"""Plain values (from yaml and the command line) converted to annotated types, or refused in one line."""

import operator
import re
import types
from collections.abc import Iterable, Mapping
from pathlib import PurePath
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from protoformer.config.signatures import Opaque
from protoformer.config.suggest import advice
from protoformer.errors import ConfigurationError

MISSING = "???"  # how yaml says that a value must be given
YAML_TYPES = ((str, (str, PurePath)), (dict, Mapping), (list, Iterable))  # the plain type, and what is written as it
NAMES = {bool: "true or false", int: "a whole number", float: "a number", str: "text", dict: "a mapping", list: "a list",
         types.NoneType: "null", Opaque: "nothing from yaml (the program gives it)"}  # fmt: skip
COMPARISONS = {"above": operator.gt, "at least": operator.ge, "below": operator.lt, "at most": operator.le}
PARENTHESIS = re.compile(r"\(.*?\)")
BOUND = re.compile(r"(above|at least|below|at most|or) (-?\d+(?:\.\d+)?|inf)")


class KeyedError(ConfigurationError):
    """A key or value that is wrong; `key` is its dotted path."""

    def __init__(self, key: str, message: str) -> None:
        super().__init__(message)
        self.key = key


class TypeMismatchError(Exception):
    """The value is of another type."""


def coerce(value: Any, annotation: Any, key: str) -> Any:
    """`value` in the type of its annotation: 1 for a float becomes 1.0, 1e3 for an int 1000, "1e-5" for a float 1e-5.

    Raises KeyedError naming the key, the value, and what is allowed.
    """
    try:
        return _coerce(value, annotation, key)
    except TypeMismatchError:
        pass
    parts = get_args(annotation) if _kind(annotation) is Union else (annotation,)
    options = [option for part in parts if _kind(part) is Literal for option in get_args(part)]
    if isinstance(value, str) and (names := [option for option in options if isinstance(option, str)]):
        others = described(annotation, names=False)
        allowed = f"is not one of its values; {advice(value, names)}{f', or {others}' if others else ''}"
    else:
        allowed = f"does not fit; expected {described(annotation)}"
        if isinstance(value, list) and any(isinstance(item, bool) for item in value):
            allowed += "; yaml reads no and yes as false and true, quote them"
    raise KeyedError(key, f"{key}={_as_yaml(value)} {allowed}")


def described(annotation: Any, names: bool = True) -> str:
    """What an annotation allows, in words; without `names` its literal strings are left out."""
    kind, args = _kind(annotation), get_args(annotation)
    if kind is Annotated:
        return described(args[0], names)
    if kind is Literal:
        return " or ".join(_as_yaml(option) for option in args if names or not isinstance(option, str))
    if kind is Union:
        return " or ".join(filter(None, (described(option, names) for option in args)))
    if kind is tuple:
        return f"a list of {len(args)}: {', '.join(map(described, args))}"
    return NAMES.get(kind, "any value") + (f" (of {described(args[0])})" if kind is list and args else "")


def _kind(annotation: Any) -> Any:
    """Annotated, Literal, Union, or the plain type that yaml writes an annotation's values in."""
    origin = get_origin(annotation) or annotation
    if not isinstance(origin, type) or origin in (tuple, types.UnionType):
        if origin is tuple:
            return list if Ellipsis in get_args(annotation) else tuple
        return Union if origin is types.UnionType else origin
    return next((plain for plain, wider in YAML_TYPES if issubclass(origin, wider)), origin)


def _coerce(value: Any, annotation: Any, key: str) -> Any:
    kind, args = _kind(annotation), get_args(annotation)
    match value:
        case _ if kind in (Any, object):
            return value
        case _ if kind is Annotated:
            return _in_range(_coerce(value, args[0], key), args[1], key)
        case _ if kind is Union:
            return _coerce_union(value, args, key)
        case _ if kind is Literal and any(type(option) is type(value) and option == value for option in args):
            return value
        case list() | tuple() if kind is tuple and len(value) == len(args):
            return [_coerce(item, option, key) for item, option in zip(value, args, strict=True)]
        case list() | tuple() if kind is list:
            return [_coerce(item, args[0] if args else Any, key) for item in value]
        case dict() if kind is dict:
            of_key, of_value = args or (Any, Any)
            return {_coerce(name, of_key, key): _coerce(item, of_value, key) for name, item in value.items()}
        case None | bool() if kind is type(value):
            return value
        case str() | int() if kind is str and not isinstance(value, bool):
            return str(value)
        case str() | int() | float() if kind in (int, float) and not isinstance(value, bool):
            return _number(value, kind)
    raise TypeMismatchError


def _coerce_union(value: Any, options: tuple[Any, ...], key: str) -> Any:
    for exact in (True, False):  # a value that fits as it stands is not converted
        for option in options:
            try:
                coerced = _coerce(value, option, key)
            except (TypeMismatchError, KeyedError) as error:
                if exact or isinstance(error, TypeMismatchError):
                    continue
                raise
            if not exact or type(coerced) is type(value):
                return coerced
    raise TypeMismatchError


def _number(value: int | float | str, kind: type) -> int | float:
    try:
        number = float(value)
    except ValueError:
        raise TypeMismatchError from None
    if kind is int and not (isinstance(value, int) or number.is_integer()):
        raise TypeMismatchError
    return number if kind is float else int(value if isinstance(value, int) else number)


def _in_range(value: Any, rule: str, key: str) -> Any:
    """The value, where it keeps to a rule (see `protoformer.ranges`): text is not empty, every number lies in its bounds."""
    if isinstance(value, str) and not value.strip():
        raise KeyedError(key, f"{key} is empty; expected {rule}")
    bounds = [(word, float(limit)) for word, limit in BOUND.findall(PARENTHESIS.sub("", rule))]
    for number in value if isinstance(value, list) else [value] if bounds else []:
        inside = all(COMPARISONS[word](number, limit) for word, limit in bounds if word != "or")
        if not inside and ("or", number) not in bounds:
            raise KeyedError(key, f"{key}={value} is out of range; expected a value {rule}")
    return value


def _as_yaml(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    return repr(value) if isinstance(value, str) and (not value or value != value.strip()) else str(value)
