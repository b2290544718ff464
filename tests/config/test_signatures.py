"""Signatures read from source: against Python's own reading of the same targets, and without importing them."""

import inspect
import subprocess
import sys
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import pytest

from protoformer.config.annotations.signatures import Opaque, definition, members, signature
from protoformer.errors import ConfigurationError
from protoformer.models.bert import bert

FAMILY = """
from __future__ import annotations
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Optional, Union
import typing
from .parts import Norm, Part, Base, Again as Renamed

def build(a: int, /, b: float = 0.5, *args: int, norm: Norm = "pre", part: Part | None = None,
          either: Union[int, Literal["all"]] = 1, maybe: Optional[str] = None, named: Renamed = "x",
          many: Sequence[int] = (1, 2), pair: tuple[int, float] = (1, 2.0), table: Mapping[str, int] | None = None,
          dotted: typing.Any = None, path: Path = Path("x"), minus: Literal[-1, 1] = -1, **rest: Any) -> Part: ...

@dataclass(frozen=True)
class Sizes:
    kind: ClassVar[str] = "sizes"
    width: int
    names: list[str] = field(default_factory=list)
    hidden: int = field(default=3, init=False)
    @classmethod
    def read(cls) -> "Sizes": ...

@dataclass
class MoreSizes(Sizes):
    depth: int = 2

class Heir(Base):
    writes: ClassVar[str] = "texts"

class Adder(Base):
    def __init__(self, *, height: int = 3, **shared: Any) -> None:
        super().__init__(**shared)

class Keeper(Base):
    def __init__(self, **kept: Any) -> None:
        super().__init__(1, depth=kept["depth"])

class Stranger(dict):
    def __init__(self, *, height: int = 3, **more: Any) -> None:
        super().__init__(**more)

Alias = Heir
"""
PARTS = """
from typing import Literal
Norm = Literal["pre", "post"]
Again = Literal["x", "y"]
class Part: ...
class Base:
    pad: int = 0
    def __init__(self, width: int, *, depth: int = 1) -> None: ...
    def texts(self) -> None: ...
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    name = "house_of_stubs"
    (tmp_path / name / "inner").mkdir(parents=True)
    (tmp_path / name / "__init__.py").write_text("raise RuntimeError('imported')\n")
    (tmp_path / name / "inner" / "__init__.py").write_text("from .family import build as make\n")
    (tmp_path / name / "inner" / "family.py").write_text(FAMILY)
    (tmp_path / name / "inner" / "parts.py").write_text(PARTS)
    monkeypatch.syspath_prepend(str(tmp_path))
    for cached in (signature, members, definition):
        cached.cache_clear()
    return name


def test_a_builder_reads_as_inspect_reads_it() -> None:
    read = signature("protoformer.models.bert.bert").parameters
    real = inspect.signature(bert).parameters
    hints = typing.get_type_hints(bert, include_extras=True)
    assert list(read) == list(real)
    for name, parameter in real.items():
        assert read[name].required == (parameter.default is inspect.Parameter.empty)
        if not read[name].required:
            assert read[name].default == parameter.default
        assert read[name].annotation == hints[name], name


def test_annotations_follow_aliases_and_re_exports(package: str) -> None:
    read = signature(f"{package}.inner.family.build")
    kinds = {name: parameter.annotation for name, parameter in read.parameters.items()}
    assert read.open
    assert kinds["a"] is int
    assert kinds["b"] is float
    assert kinds["norm"] == Literal["pre", "post"]
    assert kinds["named"] == Literal["x", "y"]
    assert kinds["part"] == Opaque | None
    assert kinds["either"] == int | Literal["all"]
    assert kinds["maybe"] == str | None
    assert kinds["many"] == Sequence[int]
    assert kinds["pair"] == tuple[int, float]
    assert kinds["table"] == Mapping[str, int] | None
    assert kinds["dotted"] is Any
    assert kinds["path"] is Path
    assert kinds["minus"] == Literal[-1, 1]
    assert [name for name, parameter in read.parameters.items() if parameter.required] == ["a"]
    assert signature(f"{package}.inner.make").parameters == read.parameters


def test_dataclasses_give_their_fields_and_those_of_their_bases(package: str) -> None:
    read = signature(f"{package}.inner.family.MoreSizes").parameters
    assert list(read) == ["width", "names", "depth"]
    assert [name for name, parameter in read.items() if parameter.required] == ["width"]


def test_an_inherited_constructor_and_inherited_members_are_found(package: str) -> None:
    assert list(signature(f"{package}.inner.family.Heir").parameters) == ["width", "depth"]
    found = members(f"{package}.inner.family.Heir")
    assert found["writes"] == "texts"
    assert found["pad"] == 0
    assert "texts" in found


def test_keywords_that_are_handed_on_are_the_bases(package: str) -> None:
    adder, keeper, stranger = (signature(f"{package}.inner.family.{name}") for name in ("Adder", "Keeper", "Stranger"))
    assert (set(adder.parameters), adder.open) == ({"width", "depth", "height"}, False)
    assert (list(keeper.parameters), keeper.open) == ([], True)
    assert (list(stranger.parameters), stranger.open) == (["height"], True)  # its base is no Python source
    span = signature("protoformer.data.SpanDataModule")
    assert {"context", "stride", "max_question", "on_bad_row"} == set(span.parameters)
    assert not span.open


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("house_of_stubs.inner.family.biuld", "did you mean build?"),
        ("house_of_stubs.inner.famly.build", "house_of_stubs.inner has no famly"),
        ("no_such_package_anywhere.x", "no such module"),
    ],
)
def test_a_target_that_does_not_exist_is_named(package: str, target: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said.replace("?", r"\?")):
        signature(target)


def test_nothing_is_imported() -> None:
    code = """
import sys
from protoformer.config.annotations.signatures import signature, members
signature("protoformer.models.bert.bert"), members("protoformer.data.ClassificationDataModule")
signature("lightning.pytorch.trainer.trainer.Trainer")
heavy = {"torch", "lightning", "numpy", "protoformer.models", "protoformer.data"} & set(sys.modules)
sys.exit(f"imported: {heavy}" if heavy else 0)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
