"""The floor plan: reading imports, stacking packages, and the stored picture, which must show the sources as they are."""

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).parents[2]
TOLERANCE = 0.1  # of a package's lines, so that an edit of a few lines leaves the picture valid
REDRAW = "out of date: run `make floor-plan`"


def _script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("draw_floor_plan", ROOT / "docs" / "draw_floor_plan.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["draw_floor_plan"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


script = _script()


def test_the_picture_shows_the_packages_and_imports_as_they_are() -> None:
    drawn, now = script.facts_of_picture(), script.facts(script.read_packages())
    assert drawn.keys() == now.keys(), REDRAW
    for name, package in now.items():
        assert drawn[name]["imports"] == package["imports"], f"{name}: {REDRAW}"
        assert drawn[name]["frameworks"] == package["frameworks"], f"{name}: {REDRAW}"
        difference = abs(drawn[name]["lines"] - package["lines"])
        assert difference <= max(50, TOLERANCE * package["lines"]), f"{name}: {REDRAW}"


def test_a_drawing_is_the_same_each_time_and_shows_each_package_once() -> None:
    packages = script.read_packages()
    picture = script.draw(packages)
    assert picture == script.draw(script.read_packages())
    texts = [element.text for element in ElementTree.fromstring(picture).iter() if element.get("class") == "name"]
    assert sorted(texts) == sorted(packages)


def test_boxes_lie_apart_and_inside_of_the_picture() -> None:
    tree = ElementTree.fromstring(script.draw(script.read_packages()))
    width, height = map(float, tree.get("viewBox", "").split()[2:])
    boxes = []
    for element in tree.iter():
        if (element.get("class") or "").startswith("box "):
            x, y, w, h = (float(element.get(key, "nan")) for key in ("x", "y", "width", "height"))
            assert x >= 0
            assert x + w <= width
            assert y >= 0
            assert y + h <= height
            boxes.append((x, y, w, h))
    for i, (x, y, w, h) in enumerate(boxes):
        assert all(x + w <= p or p + r <= x or y + h <= q or q + s <= y for p, q, r, s in boxes[:i])


def test_imports_are_read_from_functions_and_type_checking_too(tmp_path: Path) -> None:
    files = {
        "__init__.py": "from protoformer import low\n",
        "low/__init__.py": "",
        "low/deep.py": "from . import other\nfrom .other import x\n",
        "low/other.py": "import torch.nn as nn\n",
        "middle.py": "def f():\n    from protoformer.low.deep import x\n",
        "high/__init__.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from protoformer import middle\n",
        "high/more.py": "from ..low import deep\nimport lightning.pytorch\n",
    }
    for name, text in files.items():
        path = tmp_path / "protoformer" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    packages = script.read_packages(tmp_path / "protoformer")
    assert {name: package.imports for name, package in packages.items()} == {
        "low": set(),
        "middle": {"low"},
        "high": {"low", "middle"},
    }
    assert packages["low"].frameworks == {"torch"}
    assert packages["high"].frameworks == {"lightning"}
    assert packages["low"].files == 3
    graph = {name: package.imports for name, package in packages.items()}
    assert script.floors_of(graph) == {"low": 0, "middle": 1, "high": 2}
    assert script.reduced(graph) == {"low": set(), "middle": {"low"}, "high": {"middle"}}


def test_a_cycle_is_named() -> None:
    with pytest.raises(SystemExit, match=re.escape("import cycle: a -> b -> a")):
        script.floors_of({"a": {"b"}, "b": {"a"}})
