"""Every global name that a function reads is defined in its file.

The linter's check of undefined names is off, since it takes the axes of shape annotations for names.
"""

import builtins
import symtable
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
FILES = sorted([*(ROOT / "src").rglob("*.py"), *(ROOT / "benchmarks").rglob("*.py"), *(ROOT / "tests").rglob("*.py")])
MODULE_NAMES = {"__file__", "__name__", "__doc__", "__spec__", "__path__"}


def tables(table: symtable.SymbolTable) -> Iterator[symtable.SymbolTable]:
    yield table
    for child in table.get_children():
        yield from tables(child)


def undefined(source: str, file: str) -> set[str]:
    module = symtable.symtable(source, file, "exec")
    defined = {symbol.get_name() for symbol in module.get_symbols() if symbol.is_assigned() or symbol.is_imported()}
    defined |= {
        symbol.get_name()
        for table in tables(module)
        for symbol in table.get_symbols()
        if symbol.is_declared_global() and symbol.is_assigned()
    }
    read = {
        symbol.get_name()
        for table in tables(module)
        for symbol in table.get_symbols()
        if symbol.is_global() and symbol.is_referenced()
    }
    return read - defined - set(dir(builtins)) - MODULE_NAMES


def test_an_undefined_name_is_seen() -> None:
    assert undefined("def f():\n    return g(len(X))\nX = 1\n", "example.py") == {"g"}


def test_no_name_is_undefined() -> None:
    names_by_file = {
        str(path.relative_to(ROOT)): undefined(path.read_text(encoding="utf-8"), str(path)) for path in FILES
    }
    assert {path: names for path, names in names_by_file.items() if names} == {}
