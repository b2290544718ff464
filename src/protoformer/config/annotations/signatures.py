"""Signatures of `_target_`s, read from their source by `ast`: to import torch for a misspelt key would cost seconds.

Only a target's *top* package is looked up by the import system (which imports nothing); from there files are read.
Annotations are evaluated in the file that they stand in; a type that yaml cannot spell (a module, a tensor) is `Opaque`.
"""

import ast
import builtins
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.machinery import PathFinder
from importlib.util import find_spec, resolve_name
from pathlib import Path
from typing import Any, NamedTuple

from protoformer.config.names.suggest import advice
from protoformer.errors import ConfigurationError

STANDARD = ("typing", "collections", "collections.abc", "pathlib")  # what annotations may use; these alone are imported
DEPTH = 12  # re-exports that are followed
Definition = tuple["Module", ast.stmt]  # the file and the statement that define a name


class Opaque:
    """Stands in an annotation for a type that yaml cannot spell; such arguments come from the program."""

    def __class_getitem__(cls, item: Any) -> type:
        return cls


class Parameter(NamedTuple):
    """One argument: its name, its type as a typing object, and its default where it is a plain value."""

    name: str
    annotation: Any = Any
    required: bool = True
    default: Any = None


class Signature(NamedTuple):
    """Arguments by name; `open` when further keywords are taken (`**kwargs`)."""

    parameters: dict[str, Parameter]
    open: bool = False


@dataclass(frozen=True, eq=False)
class Module:
    """A parsed source file and what it binds at top level. As a mapping: what its annotations mean by a name."""

    name: str
    package: str
    path: Path
    statements: dict[str, ast.stmt]

    def resolve(self, name: str, depth: int = DEPTH) -> Definition | None:
        """Where `name` is defined, through `from x import y`; None where that is no source of ours to read."""
        node = self.statements.get(name)
        if not isinstance(node, ast.ImportFrom):
            return None if node is None or isinstance(node, ast.Import) else (self, node)
        source = resolve_name("." * node.level + (node.module or ""), self.package)
        module = _module(source) if depth and source not in STANDARD else None
        return None if module is None else module.resolve(node.names[0].name, depth - 1)

    def __getitem__(self, name: str) -> Any:
        match self.statements.get(name):
            case None:
                return vars(builtins).get(name, Opaque)
            case ast.Import():
                return import_module(name) if name in STANDARD else Opaque
            case ast.ImportFrom(source, [alias], 0) if source in STANDARD:
                return getattr(import_module(source), alias.name)
        module, statement = self.resolve(name) or (self, None)
        alias_of = getattr(statement, "value", None)  # Norm = Literal["pre", "post"]
        return Opaque if alias_of is None else module.evaluate(alias_of)

    def evaluate(self, annotation: ast.expr | None) -> Any:
        """An annotation's typing object."""
        if annotation is None:
            return Any
        try:
            meaning = eval(ast.unparse(annotation), {"__builtins__": {}}, self)  # type: ignore[arg-type]  # no dict
            return self.evaluate(ast.parse(meaning, mode="eval").body) if isinstance(meaning, str) else meaning
        except Exception:  # an expression that means something where torch is imported: nothing for yaml
            return Opaque

    def parameter(self, name: str, annotation: ast.expr | None, default: ast.expr | None) -> Parameter:
        """An argument as this file states it."""
        return Parameter(name, self.evaluate(annotation), default is None, _literal(default))


@cache
def signature(target: str) -> Signature:
    """Arguments of a class or function given by its dotted path. Raises ConfigurationError where there is none."""
    module, node = definition(target)
    if isinstance(node, ast.FunctionDef):
        return _of_function(module, node)
    if isinstance(node, ast.ClassDef):
        return members(target).get("__init__", Signature({}))
    raise ConfigurationError(f"_target_ {target}: neither a class nor a function")


@cache
def members(target: str) -> dict[str, Any]:
    """A class's literal attributes (as values), methods (as True) and `__init__` (as a Signature), inherited ones included."""
    module, node = definition(target)
    return _members(module, node) if isinstance(node, ast.ClassDef) else {}


@cache
def definition(target: str) -> Definition:
    """The file and node that a dotted path names. Raises ConfigurationError, naming what would be there."""
    path, _, name = target.rpartition(".")
    module = _module(path)
    resolved = module.resolve(name) if module is not None else None
    if resolved is not None:
        return resolved
    while module is None and path:  # the innermost package that there is
        path, _, name = path.rpartition(".")
        module = _module(path)
    if module is None:
        raise ConfigurationError(f"_target_ {target}: no such module")
    kinds = (ast.ClassDef, ast.FunctionDef, *([ast.ImportFrom] if module.name == module.package else []))
    public = [public for public, node in module.statements.items() if isinstance(node, kinds)]
    raise ConfigurationError(f"_target_ {target}: {module.name} has no {name}; {advice(name, public)}")


def source_file(target: str) -> Path:
    """The file that defines a class or function given by its dotted path. Raises ConfigurationError where there is none."""
    return definition(target)[0].path


@cache
def _module(name: str) -> Module | None:
    top, *rest = name.split(".")
    try:
        spec = find_spec(top)
    except (ImportError, ValueError):
        return None
    for part in rest:
        spec = PathFinder.find_spec(part, spec.submodule_search_locations or []) if spec is not None else None
    if spec is None or not str(spec.origin).endswith(".py"):
        return None
    path = Path(str(spec.origin))
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    return Module(name, package, path, _bindings(ast.parse(path.read_text(encoding="utf-8"), str(path)).body))


def _bindings(body: list[ast.stmt]) -> dict[str, ast.stmt]:
    """The names that statements bind, each with its statement; an import with several names is one for each."""
    bound: dict[str, ast.stmt] = {}
    for node in body:
        match node:
            case ast.If() | ast.Try():
                bound |= _bindings(node.body)
            case ast.ClassDef() | ast.FunctionDef():
                bound[node.name] = node
            case ast.Import(names):
                bound |= {alias.asname or alias.name.split(".")[0]: node for alias in names}
            case ast.ImportFrom(module, names, level):
                bound |= {alias.asname or alias.name: ast.ImportFrom(module, [alias], level) for alias in names}
            case ast.Assign(targets):
                bound |= {target.id: node for target in targets if isinstance(target, ast.Name)}
            case ast.AnnAssign(ast.Name(name)):
                bound[name] = node
    return bound


def _members(module: Module, node: ast.ClassDef) -> dict[str, Any]:
    """As `members`, as far as the source of its bases can be read. Keywords that it hands on to its base are its base's."""
    members: dict[str, Any] = {}
    for base in reversed(node.bases):
        generic = base.value if isinstance(base, ast.Subscript) else base  # Base[Of] is Base
        match module.resolve(generic.id) if isinstance(generic, ast.Name) else None:
            case source, ast.ClassDef() as above if above is not node:
                members |= _members(source, above)
    inherited = members.get("__init__", Signature({})) if members else None
    for name, item in _bindings(node.body).items():
        match item:
            case ast.FunctionDef("__init__"):
                own = members[name] = _of_function(module, item, skip=1)
                if inherited is not None and _hands_on(item):
                    members[name] = Signature({**inherited.parameters, **own.parameters}, inherited.open)
            case ast.FunctionDef():
                members[name] = True
            case ast.Assign(value=ast.expr() as value) | ast.AnnAssign(value=ast.expr() as value):
                members[name] = _literal(value)
    if any(ast.unparse(decorator).split("(")[0].split(".")[-1] == "dataclass" for decorator in node.decorator_list):
        fields = {**members.get("__dataclass_fields__", {}), **_fields(module, node)}
        members |= {"__dataclass_fields__": fields, "__init__": Signature(fields)}
    return members


def _hands_on(init: ast.FunctionDef) -> bool:
    """Whether `**kwargs` go to `super().__init__` as they came."""
    calls = [node for node in ast.walk(init) if isinstance(node, ast.Call)]
    keywords = [word for call in calls if ast.unparse(call.func) == "super().__init__" for word in call.keywords]
    kwargs = init.args.kwarg
    return kwargs is not None and any(word.arg is None and ast.unparse(word.value) == kwargs.arg for word in keywords)


def _fields(module: Module, node: ast.ClassDef) -> dict[str, Parameter]:
    """The arguments that a dataclass adds to those of its bases."""
    parameters = {}
    for name, item in _bindings(node.body).items():
        if not isinstance(item, ast.AnnAssign) or "ClassVar" in ast.unparse(item.annotation):
            continue
        default, options = item.value, dict[str | None, ast.expr]()
        if isinstance(default, ast.Call) and ast.unparse(default.func).endswith("field"):
            options = {word.arg: word.value for word in default.keywords}
            default = options.get("default", options.get("default_factory"))
        if _literal(options.get("init")) is not False:
            parameters[name] = module.parameter(name, item.annotation, default)
    return parameters


def _of_function(module: Module, node: ast.FunctionDef, skip: int = 0) -> Signature:
    spec = node.args
    positional = [*spec.posonlyargs, *spec.args]
    defaults = [*[None] * (len(positional) - len(spec.defaults)), *spec.defaults, *spec.kw_defaults]
    arguments = list(zip([*positional, *spec.kwonlyargs], defaults, strict=True))[skip:]
    parameters = {arg.arg: module.parameter(arg.arg, arg.annotation, default) for arg, default in arguments}
    return Signature(parameters, open=spec.kwarg is not None)


def _literal(node: ast.expr | None) -> Any:
    try:
        return None if node is None else ast.literal_eval(node)
    except ValueError:
        return None
