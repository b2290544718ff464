"""Plain values (from yaml and the command line) converted to annotated types, or refused in one line."""

import math
import operator
import re
import types
from collections.abc import Iterable, Mapping
from pathlib import PurePath
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from protoformer.config.annotations.signatures import Opaque
from protoformer.config.names.foreign_names import foreign_value
from protoformer.config.names.suggest import advice
from protoformer.durations import canonical
from protoformer.errors import ConfigurationError
from protoformer.ranges import DURATION

MISSING = "???"  # how yaml says that a value must be given
NAMES = {bool: "true or false", int: "a whole number", float: "a number", str: "text", dict: "a mapping", list: "a list",
         types.NoneType: "null", Opaque: "nothing from yaml (the program gives it)"}  # fmt: skip
WIDER = {(str, PurePath): str, (Mapping,): dict, (Iterable,): list}  # types, and the plain one that yaml writes them in
COMPARISONS = {"above": operator.gt, "at least": operator.ge, "below": operator.lt, "at most": operator.le}
PARENTHESIS = re.compile(r"\(.*?\)")
BOUND = re.compile(r"(above|at least|below|at most|or) (-?\d+(?:\.\d+)?)")


class KeyedError(ConfigurationError):
    """A key or value that is wrong; `key` is its dotted path."""

    def __init__(self, key: str, message: str) -> None:
        super().__init__(message)
        self.key = key


def coerce(value: object, annotation: object, key: str) -> Any:
    """`value` in the type of its annotation: 1 for a float becomes 1.0, 1e3 for an int 1000, "1e-5" for a float 1e-5.

    Raises KeyedError naming the key, the value, and what is allowed.
    """
    meant = foreign_value(key, as_yaml(value))
    try:
        return _coerce(value, annotation, key)
    except KeyedError as error:
        raise (error if meant is None else KeyedError(key, f"{error}; did you mean {meant}?")) from None
    except ValueError:
        pass
    parts = get_args(annotation) if _kind(annotation) is Union else (annotation,)
    items: list[object] = value if isinstance(value, list) else []
    for part in parts if items else ():
        if _kind(part) is list and get_args(part) and not any(isinstance(item, bool) for item in items):
            for item in items:  # the one that does not fit is named
                coerce(item, get_args(part)[0], key)
    names = [name for part in parts if _kind(part) is Literal for name in get_args(part) if isinstance(name, str)]
    if names and (isinstance(value, str) or meant is not None):
        others = described(annotation, names=False)
        known = advice(str(value), names) if meant is None else f"did you mean {meant}? Choose from: {', '.join(names)}"
        allowed = f"is not one of its values; {known}{f', or {others}' if others else ''}"
    else:
        allowed = f"does not fit; expected {described(annotation)}"
        if any(isinstance(item, bool) for item in items):
            allowed += "; yaml reads no and yes as false and true, quote them"
    raise KeyedError(key, f"{key}={as_yaml(value)} {allowed}")


def described(annotation: object, names: bool = True) -> str:
    """What an annotation allows, in words; without `names` its literal strings are left out."""
    kind, args = _kind(annotation), get_args(annotation)
    if kind is Annotated:
        return described(args[0], names)
    if kind is Literal:
        return " or ".join(as_yaml(option) for option in args if names or not isinstance(option, str))
    if kind is Union:
        return " or ".join(filter(None, (described(option, names) for option in args if option is not Opaque)))
    if kind is tuple:
        return f"a list of {len(args)}: {', '.join(map(described, args))}"
    return NAMES.get(kind, "any value") + (f" (of {described(args[0])})" if kind is list and args else "")


def _kind(annotation: object) -> Any:
    """Annotated, Literal, Union, tuple (of a fixed length), or the plain type that an annotation's values are written in."""
    origin = get_origin(annotation) or annotation
    if origin is types.UnionType:
        return Union
    if not isinstance(origin, type) or (origin is tuple and Ellipsis not in get_args(annotation)):
        return origin
    return next((plain for wider, plain in WIDER.items() if issubclass(origin, wider)), origin)


def _coerce(value: object, annotation: object, key: str) -> Any:
    """As `coerce`; raises ValueError where the value is of another type."""
    kind, args = _kind(annotation), get_args(annotation)
    if kind is Opaque and isinstance(value, Mapping) and "_target_" in value:
        return value  # built where it stands
    if kind in (Any, object) or (kind in (bool, types.NoneType) and type(value) is kind):
        return value
    if kind is Annotated:
        return _in_range(_coerce(value, args[0], key), args[1], key)
    if kind is Union:
        return _coerce_union(value, args, key)
    if kind is Literal and any(type(option) is type(value) and option == value for option in args):
        return value
    match value:
        case list() | tuple() if kind is tuple and len(value) == len(args):
            return [_coerce(item, option, key) for item, option in zip(value, args, strict=True)]
        case list() | tuple() if kind is list:
            return [_coerce(item, args[0] if args else Any, key) for item in value]
        case dict() if kind is dict:
            of_key, of_value = args or (Any, Any)
            return {_coerce(name, of_key, key): _coerce(item, of_value, key) for name, item in value.items()}
        case bool():
            raise ValueError
        case str() | int() if kind is str:
            return str(value)
        case int() if kind is int:
            return value
        case str() | int() | float() if kind is float or (kind is int and float(value).is_integer()):
            return kind(float(value))
    raise ValueError


def _coerce_union(value: object, options: tuple[object, ...], key: str) -> Any:
    outcomes: list[object] = []  # values, and errors about a value that has the right type
    for option in options:
        try:
            outcomes.append(_coerce(value, option, key))
        except KeyedError as error:
            outcomes.append(error)
        except ValueError:
            continue
    outcomes.sort(key=lambda outcome: type(outcome) is not type(value))  # what fits as it stands is not converted
    if not outcomes:
        raise ValueError
    if isinstance(outcomes[0], KeyedError):
        raise outcomes[0]
    return outcomes[0]


def _in_range(value: Any, rule: str, key: str) -> Any:
    """The value, where it keeps to a rule (see `protoformer.ranges`): text is not empty, every number is
    finite and lies in its bounds."""
    if isinstance(value, str) and not value.strip():
        raise KeyedError(key, f"{key} is empty; expected {rule}")
    if rule == DURATION:
        try:
            return canonical(value)
        except ValueError:
            raise KeyedError(key, f"{key}={value} does not fit; expected {rule}") from None
    bounds = [(word, float(limit)) for word, limit in BOUND.findall(PARENTHESIS.sub("", rule))]
    for number in value if isinstance(value, list) else [value] if bounds else []:
        inside = math.isfinite(number) and all(
            COMPARISONS[word](number, limit) for word, limit in bounds if word != "or"
        )
        if not inside and ("or", number) not in bounds:
            raise KeyedError(key, f"{key}={value} is out of range; expected a value {rule}")
    return value


def as_yaml(value: object) -> str:
    """A plain value as yaml writes it in one line."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(as_yaml, value))}]"
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    return repr(value) if isinstance(value, str) and (not value or value != value.strip()) else str(value)
