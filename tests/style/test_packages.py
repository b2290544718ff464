"""A package stays small enough to be read: at most 15 files and 1,500 lines of its own, its sub-packages apart."""

from pathlib import Path

import pytest

import protoformer

ROOT = Path(protoformer.__file__).parent
FILES, LINES = 15, 1500
PACKAGES = sorted({file.parent for file in ROOT.rglob("*.py")})


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.relative_to(ROOT).as_posix())
def test_size_of_a_package(package: Path) -> None:
    lines = {file.name: len(file.read_text(encoding="utf-8").splitlines()) for file in package.glob("*.py")}
    assert len(lines) <= FILES, f"{len(lines)} files"
    assert sum(lines.values()) <= LINES, f"{sum(lines.values())} lines"
