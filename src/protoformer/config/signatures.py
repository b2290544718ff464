"""Signatures of `_target_`s, read from their source by `ast`: to import torch for a misspelt key would cost seconds.

Only a target's *top* package is looked up by the import system (which imports nothing); from there files are read.
Annotations are evaluated in the file that they stand in; a type that yaml cannot spell (a module, a tensor) is `Opaque`.
"""

import ast
import builtins
import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from protoformer.config.suggest import advice
from protoformer.errors import ConfigurationError

STANDARD = ("typing", "collections.abc", "pathlib")  # modules that annotations may use; these alone are imported
DEPTH = 12  # re-exports that are followed


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


class Definition(NamedTuple):
    """The file and the statement that define a name."""

    module: "Module"
    node: ast.stmt


@dataclass(frozen=True, eq=False)
class Module:
    """A parsed source file and what it binds at top level. As a mapping: what its annotations mean by a name."""

    name: str
    package: str
    path: Path
    statements: dict[str, ast.stmt]

    def resolve(self, name: str, depth: int = DEPTH) -> Definition | None:
        """Where `name` is defined, through `from x import y`; None where that is no Python source."""
        node = self.statements.get(name)
        if not isinstance(node, ast.ImportFrom):
            return None if node is None or isinstance(node, ast.Import) else Definition(self, node)
        source = _module(importlib.util.resolve_name("." * node.level + (node.module or ""), self.package))
        return None if source is None or not depth else source.resolve(_original(node, name), depth - 1)

    def __getitem__(self, name: str) -> Any:
        node = self.statements.get(name, None)
        if node is None:
            return vars(builtins).get(name, Opaque)
        if isinstance(node, ast.Import):
            return importlib.import_module(name) if name in ("typing", "collections", "pathlib") else Opaque
        if isinstance(node, ast.ImportFrom) and node.module in STANDARD and not node.level:
            return getattr(importlib.import_module(node.module), _original(node, name))
        resolved = self.resolve(name)
        alias = getattr(resolved.node, "value", None) if resolved is not None else None  # Norm = Literal["pre", "post"]
        return Opaque if resolved is None or alias is None else resolved.module.evaluate(alias)

    def evaluate(self, annotation: ast.expr | None) -> Any:
        """An annotation's typing object."""
        if annotation is None:
            return Any
        try:
            code = compile(ast.Expression(annotation), self.name, "eval")
            meant = eval(code, {"__builtins__": {}}, self)  # type: ignore[arg-type]
            return self.evaluate(ast.parse(meant, mode="eval").body) if isinstance(meant, str) else meant
        except Exception:  # an expression that means something where torch is imported: nothing for yaml
            return Opaque


@cache
def signature(target: str) -> Signature:
    """Arguments of a class or function given by its dotted path. Raises ConfigurationError where there is none."""
    target_definition = definition(target)
    if isinstance(target_definition.node, ast.FunctionDef):
        return _of_function(target_definition.module, target_definition.node)
    if isinstance(target_definition.node, ast.ClassDef):
        return _of_class(list(_lineage(target_definition)))
    raise ConfigurationError(f"_target_ {target}: neither a class nor a function")


@cache
def members(target: str) -> dict[str, Any]:
    """Methods (as True) and literal class attributes (as their values) of a class, inherited ones included."""
    attributes: dict[str, Any] = {}
    for _, node in reversed(list(_lineage(definition(target)))):
        for item in node.body:
            if isinstance(item, ast.FunctionDef):
                attributes[item.name] = True
            elif isinstance(item, ast.Assign | ast.AnnAssign) and item.value is not None:
                attributes |= dict.fromkeys(_bound(item), _literal(item.value))
    return attributes


@cache
def definition(target: str) -> Definition:
    """The file and node that a dotted path names. Raises ConfigurationError, naming what would be there."""
    parts = target.split(".")
    for cut in range(len(parts) - 1, 0, -1):
        module = _module(".".join(parts[:cut]))
        if module is None:
            continue
        resolved = module.resolve(parts[cut]) if cut == len(parts) - 1 else None
        if resolved is None:
            kinds = (ast.ClassDef, ast.FunctionDef, *([ast.ImportFrom] if module.name == module.package else []))
            public = [name for name, node in module.statements.items() if isinstance(node, kinds)]
            raise ConfigurationError(
                f"_target_ {target}: {module.name} has no {parts[cut]}; {advice(parts[cut], public)}"
            )
        return resolved
    raise ConfigurationError(f"_target_ {target}: no such module")


def source_file(target: str) -> Path:
    """The file that defines a class or function given by its dotted path. Raises ConfigurationError where there is none."""
    return definition(target).module.path


@cache
def _module(name: str) -> Module | None:
    top, *rest = name.split(".")
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return None
    if spec is None:
        return None
    files = [Path(spec.origin)] if not rest and spec.origin and spec.origin.endswith(".py") else []
    for base in (Path(folder, *rest) for folder in spec.submodule_search_locations or []):
        files += [base / "__init__.py", base.with_suffix(".py")]
    path = next((path for path in files if path.is_file()), None)
    if path is None:
        return None
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    return Module(name, package, path, _top_level(ast.parse(path.read_text(encoding="utf-8"), str(path)).body))


def _top_level(body: list[ast.stmt]) -> dict[str, ast.stmt]:
    bound: dict[str, ast.stmt] = {}
    for node in body:
        bound |= _top_level(node.body) if isinstance(node, ast.If | ast.Try) else dict.fromkeys(_bound(node), node)
    return bound


def _bound(node: ast.stmt) -> list[str]:
    """The names that a statement binds."""
    match node:
        case ast.ClassDef() | ast.FunctionDef():
            return [node.name]
        case ast.ImportFrom() | ast.Import():
            return [alias.asname or alias.name.split(".")[0] for alias in node.names]
        case ast.Assign() | ast.AnnAssign():
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            return [target.id for target in targets if isinstance(target, ast.Name)]
    return []


def _original(node: ast.ImportFrom, name: str) -> str:
    """What `name` is called where it is imported from."""
    return next(alias.name for alias in node.names if (alias.asname or alias.name) == name)


def _lineage(class_definition: Definition, depth: int = DEPTH) -> Iterator[tuple[Module, ast.ClassDef]]:
    """A class and its bases, nearest first, as far as their source can be read."""
    if isinstance(class_definition.node, ast.ClassDef) and depth:
        yield class_definition.module, class_definition.node
        for base in class_definition.node.bases:
            name = base.value if isinstance(base, ast.Subscript) else base  # Base[Of] is Base
            above = class_definition.module.resolve(name.id) if isinstance(name, ast.Name) else None
            yield from _lineage(above, depth - 1) if above is not None else ()


def _of_class(lineage: list[tuple[Module, ast.ClassDef]]) -> Signature:
    """Of a class at the head of its lineage. Keywords that it hands on to its base are its base's."""
    for index, (module, node) in enumerate(lineage):
        if _is_dataclass(node):
            return _of_dataclass([pair for pair in lineage if _is_dataclass(pair[1])])
        for init in node.body:
            if isinstance(init, ast.FunctionDef) and init.name == "__init__":
                own, bases = _of_function(module, init, skip=1), lineage[index + 1 :]
                if not bases or not _hands_on(init):
                    return own
                inherited = _of_class(bases)
                return Signature({**inherited.parameters, **own.parameters}, inherited.open)
    return Signature({})


def _hands_on(init: ast.FunctionDef) -> bool:
    """Whether `**kwargs` go to `super().__init__` as they came."""
    calls = [node for node in ast.walk(init) if isinstance(node, ast.Call)]
    keywords = [word for call in calls if ast.unparse(call.func) == "super().__init__" for word in call.keywords]
    kwargs = init.args.kwarg
    return kwargs is not None and any(word.arg is None and ast.unparse(word.value) == kwargs.arg for word in keywords)


def _is_dataclass(node: ast.ClassDef) -> bool:
    return any(ast.unparse(decorator).split("(")[0].split(".")[-1] == "dataclass" for decorator in node.decorator_list)


def _of_dataclass(lineage: list[tuple[Module, ast.ClassDef]]) -> Signature:
    parameters: dict[str, Parameter] = {}
    for module, node in reversed(lineage):
        for item in node.body:
            if not isinstance(item, ast.AnnAssign) or "ClassVar" in ast.unparse(item.annotation):
                continue
            default = item.value
            if isinstance(default, ast.Call) and ast.unparse(default.func).endswith("field"):
                options = {word.arg: word.value for word in default.keywords}
                if "init" in options and _literal(options["init"]) is False:
                    continue
                default = options.get("default") or options.get("default_factory")
            (name,) = _bound(item)
            parameters[name] = Parameter(name, module.evaluate(item.annotation), default is None, _literal(default))
    return Signature(parameters)


def _of_function(module: Module, node: ast.FunctionDef, skip: int = 0) -> Signature:
    spec = node.args
    positional = [*spec.posonlyargs, *spec.args]
    defaults = [*[None] * (len(positional) - len(spec.defaults)), *spec.defaults, *spec.kw_defaults]
    pairs = list(zip([*positional, *spec.kwonlyargs], defaults, strict=True))[skip:]
    parameters = {
        arg.arg: Parameter(arg.arg, module.evaluate(arg.annotation), default is None, _literal(default))
        for arg, default in pairs
    }
    return Signature(parameters, open=spec.kwarg is not None)


def _literal(node: ast.expr | None) -> Any:
    try:
        return None if node is None else ast.literal_eval(node)
    except ValueError:
        return None
