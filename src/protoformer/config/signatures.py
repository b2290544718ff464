"""Signatures of `_target_`s, read from their source by `ast`: to import torch for a misspelt key would cost seconds.

Only a target's *top* package is looked up by the import system (which imports nothing); from there files are walked.
Annotations become ordinary typing objects; what yaml cannot spell (a module, a tensor) becomes `Opaque`.
"""

import ast
import importlib.util
from dataclasses import dataclass, field
from functools import cache, reduce
from operator import or_
from pathlib import Path
from types import NoneType
from typing import Any, Literal, NamedTuple

from protoformer.config.suggest import advice
from protoformer.errors import ConfigurationError

DEPTH = 12  # re-exports, aliases and base classes that are followed


class Opaque:
    """Stands in an annotation for a type that yaml cannot spell; such arguments come from the program."""


@dataclass(frozen=True)
class Parameter:
    """One argument: its name, its type as a typing object, and its default where it is a plain value."""

    name: str
    annotation: Any = Any
    required: bool = True
    default: Any = None


@dataclass(frozen=True)
class Signature:
    """Arguments by name; `open` when further keywords are taken (`**kwargs`)."""

    target: str
    parameters: dict[str, Parameter] = field(default_factory=dict)
    open: bool = False


@dataclass(frozen=True, eq=False)
class Module:
    """A parsed source file and what it defines at top level."""

    name: str
    package: str
    names: dict[str, ast.stmt]


class Definition(NamedTuple):
    """Where a name is defined."""

    module: Module
    node: ast.stmt


@cache
def signature(target: str) -> Signature:
    """Arguments of a class or function given by its dotted path. Raises ConfigurationError where there is none."""
    module, node = definition(target)
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return _of_function(target, module, node, skip_first=False)
    if isinstance(node, ast.ClassDef):
        return _of_class(target, _lineage(Definition(module, node), DEPTH))
    raise ConfigurationError(f"_target_ {target}: neither a class nor a function")


@cache
def members(target: str) -> dict[str, Any]:
    """Methods (as True) and literal class attributes (as their values) of a class, inherited ones included."""
    found: dict[str, Any] = {}
    for _, node in _lineage(definition(target), DEPTH):
        for item in node.body:
            if isinstance(item, ast.FunctionDef):
                found.setdefault(item.name, True)
            elif isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name) and item.value is not None:
                found.setdefault(item.target.id, _literal(item.value))
            elif isinstance(item, ast.Assign):
                for name in item.targets:
                    if isinstance(name, ast.Name):
                        found.setdefault(name.id, _literal(item.value))
    return found


@cache
def definition(target: str) -> Definition:
    """The file and node that a dotted path names. Raises ConfigurationError, naming what would be there."""
    parts = target.split(".")
    for cut in range(len(parts) - 1, 0, -1):
        module = _module(".".join(parts[:cut]))
        if module is None:
            continue
        name = parts[cut]
        found = _lookup(module, name, DEPTH) if cut == len(parts) - 1 else None
        if found is None:
            kinds = (ast.ClassDef, ast.FunctionDef, *([ast.ImportFrom] if module.name == module.package else []))
            public = [known for known, node in module.names.items() if isinstance(node, kinds)]
            raise ConfigurationError(f"_target_ {target}: {module.name} has no {name}; {advice(name, public)}")
        return found
    raise ConfigurationError(f"_target_ {target}: no such module")


@cache
def _module(name: str) -> Module | None:
    path = _file(name)
    if path is None:
        return None
    tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    return Module(name, package, dict(_top_level(tree.body)))


def _file(name: str) -> Path | None:
    top, *rest = name.split(".")
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return None
    if spec is None:
        return None
    if not rest and spec.origin is not None and spec.origin.endswith(".py"):
        return Path(spec.origin)
    for folder in spec.submodule_search_locations or []:
        base = Path(folder, *rest)
        for path in (base / "__init__.py", base.with_suffix(".py")):
            if path.is_file():
                return path
    return None


def _top_level(body: list[ast.stmt]) -> list[tuple[str, ast.stmt]]:
    found: list[tuple[str, ast.stmt]] = []
    for node in body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            found.append((node.name, node))
        elif isinstance(node, ast.ImportFrom | ast.Import):
            found += [(alias.asname or alias.name.split(".")[0], node) for alias in node.names]
        elif isinstance(node, ast.Assign):
            found += [(name.id, node) for name in node.targets if isinstance(name, ast.Name)]
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found.append((node.target.id, node))
        elif isinstance(node, ast.If | ast.Try):
            found += _top_level(node.body)
    return found


def _lookup(module: Module, name: str, depth: int) -> Definition | None:
    """Follow `name` through `from x import y` to where it is defined; None where that is no Python source."""
    node = module.names.get(name)
    if node is None or depth == 0:
        return None
    if isinstance(node, ast.Import):
        return None
    if not isinstance(node, ast.ImportFrom):
        return Definition(module, node)
    original = next(alias.name for alias in node.names if (alias.asname or alias.name) == name)
    parent = node.module or ""
    if node.level:
        base = module.package.split(".")
        parent = ".".join([*base[: len(base) - node.level + 1], *([node.module] if node.module else [])])
    source = _module(parent)
    return None if source is None else _lookup(source, original, depth - 1)


def _lineage(found: Definition, depth: int) -> list[tuple[Module, ast.ClassDef]]:
    """A class and its bases, nearest first, as far as their source can be read."""
    module, node = found
    if not isinstance(node, ast.ClassDef) or depth == 0:
        return []
    line = [(module, node)]
    for base in (item.value if isinstance(item, ast.Subscript) else item for item in node.bases):  # Base[Of] is Base
        above = _lookup(module, base.id, DEPTH) if isinstance(base, ast.Name) else None
        line += _lineage(above, depth - 1) if above is not None else []
    return line


def _of_class(target: str, line: list[tuple[Module, ast.ClassDef]]) -> Signature:
    """Of a class at the head of its lineage. Keywords that it hands on to its base are its base's."""
    for number, (module, node) in enumerate(line):
        if _is_dataclass(node):
            return _of_dataclass(target, [pair for pair in line if _is_dataclass(pair[1])])
        for item in node.body:
            if isinstance(item, ast.FunctionDef) and item.name == "__init__":
                own = _of_function(target, module, item, skip_first=True)
                above = _of_class(target, line[number + 1 :]) if line[number + 1 :] and _hands_on(item) else None
                if above is None:
                    return own
                return Signature(target, {**above.parameters, **own.parameters}, above.open)
    return Signature(target)


def _hands_on(init: ast.FunctionDef) -> bool:
    """Whether `**kwargs` go to `super().__init__` as they came."""
    if init.args.kwarg is None:
        return False
    calls = [node for node in ast.walk(init) if isinstance(node, ast.Call)]
    further = [call for call in calls if ast.unparse(call.func) == "super().__init__"]
    return any(
        keyword.arg is None and ast.unparse(keyword.value) == init.args.kwarg.arg
        for call in further
        for keyword in call.keywords
    )


def _of_dataclass(target: str, line: list[tuple[Module, ast.ClassDef]]) -> Signature:
    parameters: dict[str, Parameter] = {}
    for module, node in reversed(line):
        for item in node.body:
            if not isinstance(item, ast.AnnAssign) or not isinstance(item.target, ast.Name):
                continue
            if ast.unparse(item.annotation).split("[")[0].endswith("ClassVar"):
                continue
            name, value = item.target.id, item.value
            if isinstance(value, ast.Call) and ast.unparse(value.func).endswith("field"):
                given = {keyword.arg: keyword.value for keyword in value.keywords}
                if isinstance(given.get("init"), ast.Constant) and given["init"].value is False:  # type: ignore[attr-defined]
                    continue
                value = given.get("default") or given.get("default_factory")
            parameters[name] = Parameter(name, _annotation(item.annotation, module), value is None, _literal(value))
    return Signature(target, parameters)


def _is_dataclass(node: ast.ClassDef) -> bool:
    return any(ast.unparse(decorator).split("(")[0].split(".")[-1] == "dataclass" for decorator in node.decorator_list)


def _of_function(
    target: str, module: Module, node: ast.FunctionDef | ast.AsyncFunctionDef, skip_first: bool
) -> Signature:
    spec = node.args
    ordered = [*spec.posonlyargs, *spec.args]
    late: list[ast.expr | None] = [None] * (len(ordered) - len(spec.defaults)) + list(spec.defaults)
    pairs = list(zip(ordered, late, strict=True))[1 if skip_first else 0 :]
    pairs += list(zip(spec.kwonlyargs, spec.kw_defaults, strict=True))
    parameters = {
        arg.arg: Parameter(arg.arg, _annotation(arg.annotation, module), default is None, _literal(default))
        for arg, default in pairs
    }
    return Signature(target, parameters, open=spec.kwarg is not None)


def _literal(node: ast.expr | None) -> Any:
    if node is None:
        return None
    try:
        return ast.literal_eval(node)
    except ValueError:
        return None


PLAIN: dict[str, Any] = {
    "Any": Any, "object": Any, "bool": bool, "int": int, "float": float, "str": str, "Path": str, "None": NoneType,
    "list": list, "List": list, "Sequence": list, "Collection": list, "Iterable": list, "tuple": tuple, "Tuple": tuple,
    "set": list, "frozenset": list, "dict": dict, "Dict": dict, "Mapping": dict,
}  # fmt: skip


def _annotation(node: ast.expr | None, module: Module, depth: int = DEPTH) -> Any:
    """An annotation's typing object: parts that yaml cannot spell are `Opaque`."""
    if node is None:
        return Any
    if depth == 0:
        return Opaque
    if isinstance(node, ast.Constant):
        if node.value is None:
            return NoneType
        if isinstance(node.value, str):
            return _annotation(ast.parse(node.value, mode="eval").body, module, depth - 1)
        return Opaque
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        return _union([_annotation(node.left, module, depth - 1), _annotation(node.right, module, depth - 1)])
    if isinstance(node, ast.Subscript):
        return _subscript(node, module, depth - 1)
    if isinstance(node, ast.Attribute):
        return PLAIN.get(node.attr, Opaque) if ast.unparse(node.value) in ("typing", "collections.abc") else Opaque
    if not isinstance(node, ast.Name):
        return Opaque
    found = _lookup(module, node.id, DEPTH)
    if found is not None and isinstance(found.node, ast.Assign | ast.AnnAssign) and found.node.value is not None:
        return _annotation(found.node.value, found.module, depth - 1)
    if found is not None and found.module.name.split(".")[0] not in (
        "typing",
        "collections",
        "_collections_abc",
        "pathlib",
    ):
        return Opaque
    return PLAIN.get(node.id, Opaque)


def _subscript(node: ast.Subscript, module: Module, depth: int) -> Any:
    head = ast.unparse(node.value).split(".")[-1]
    inside = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
    if head == "Literal":
        return _union([_literal_type(item, module, depth) for item in inside])
    if head in ("Annotated", "Final", "ClassVar", "Required", "NotRequired"):
        return _annotation(inside[0], module, depth)
    if head == "Optional":
        return _union([_annotation(inside[0], module, depth), NoneType])
    if head == "Union":
        return _union([_annotation(item, module, depth) for item in inside])
    kind = PLAIN.get(head, Opaque)
    dots = isinstance(inside[-1], ast.Constant) and inside[-1].value is ...
    types = [_annotation(item, module, depth) for item in (inside[:-1] if dots else inside)]
    if kind is list or (kind is tuple and dots):
        return list[types[0]]
    if kind is tuple:
        return tuple[*types]
    if kind is dict:
        return dict[types[0], types[1]] if len(types) == 2 else dict
    return Opaque


def _literal_type(node: ast.expr, module: Module, depth: int) -> Any:
    if isinstance(node, ast.Constant):
        return Literal[node.value]
    if isinstance(node, ast.UnaryOp):
        return Literal[ast.literal_eval(node)]
    return _annotation(node, module, depth)


def _union(types: list[Any]) -> Any:
    return Any if Any in types else reduce(or_, types)
