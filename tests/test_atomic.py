"""Atomic writes: complete or absent, and the only way in which the package replaces a file."""

import ast
import os
import resource
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from protoformer.atomic import create_folder_atomically, remove_abandoned, replace_atomically, write_text
from protoformer.errors import DiskFullError
from protoformer.training.checkpoints import write_checkpoint

PACKAGE = Path(__file__).parents[1] / "src" / "protoformer"
RENAMES = {
    "os": {"replace", "rename", "renames"},
    "shutil": {"move"},
}
MAY_RENAME = {
    "atomic.py": {"replace"},
    "runs/lock.py": {"rename"},  # takes a dead owner's lock out of the way: no file is replaced
}


def test_text_is_written_with_its_folders_and_replaces_what_is_there(tmp_path: Path) -> None:
    file = tmp_path / "a" / "b.txt"
    write_text(file, "é\n")
    write_text(file, "two")
    assert file.read_bytes() == b"two"
    assert [path.name for path in file.parent.iterdir()] == ["b.txt"]


def test_new_files_have_the_permissions_of_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_text(tmp_path / "a", "text")
        with create_folder_atomically(tmp_path / "b"):
            pass
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640
    assert stat.S_IMODE((tmp_path / "b").stat().st_mode) == 0o750


def test_an_error_in_the_block_leaves_the_old_file_and_no_temporary_one(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    write_text(file, "old")

    def killed() -> None:
        with replace_atomically(file) as tmp:
            tmp.write_text("ne")
            assert file.read_text() == "old"
            raise RuntimeError("half")

    with pytest.raises(RuntimeError, match="half"):
        killed()
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a.txt", "old")]


def test_a_full_disk_leaves_the_old_file_and_no_temporary_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_text(tmp_path / "a.txt", "old")

    def full(*rest: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DiskFullError, match=r"a\.txt: no space left \(0\.0 KiB needed, .* free\); make room"):
        write_text(tmp_path / "a.txt", "new")
    with pytest.raises(DiskFullError, match="b: no space left"), create_folder_atomically(tmp_path / "b") as tmp:
        (tmp / "c").write_text("new")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a.txt", "old")]


def test_a_full_disk_behind_the_error_of_compiled_code(tmp_path: Path) -> None:
    """torch.save and tokenizers say something of their own; RLIMIT_FSIZE stands for the disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, before[1]))
    try:
        with pytest.raises(DiskFullError, match=r"w\.ckpt: no space left \(3\.8 MiB needed"):
            write_checkpoint({"state_dict": {"w": torch.zeros(1_000_000)}, "global_step": 1}, tmp_path / "w.ckpt")
        with pytest.raises(FileNotFoundError), replace_atomically(tmp_path / "b"):  # a bug is no full disk
            pass
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == []


def test_what_dead_processes_were_writing_goes(tmp_path: Path) -> None:
    code = "import sys, pathlib, os; from protoformer import atomic; p = pathlib.Path(sys.argv[1]);"
    code += (
        "m = atomic.replace_atomically(p); m.__enter__().touch(); f = atomic.create_folder_atomically(p.parent / 'f');"
    )
    code += "(f.__enter__() / 'x').touch(); print(flush=True); sys.stdin.read(); os._exit(1)"
    writer = subprocess.Popen(
        [sys.executable, "-c", code, tmp_path / "deep" / "a.ckpt"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert writer.stdout is not None
    writer.stdout.readline()
    elsewhere = tmp_path / ".b.0123abcd-1-2.01234567.part"  # of another machine
    elsewhere.touch()
    assert remove_abandoned(tmp_path, owned=False) == []
    writer.communicate()
    assert len(remove_abandoned(tmp_path)) == 2
    assert list(tmp_path.rglob("*.part")) == [elsewhere]
    assert remove_abandoned(tmp_path, owned=True) == [elsewhere]


def test_a_block_that_writes_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), replace_atomically(tmp_path / "a"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_synced_before_it_is_renamed_and_its_folder_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    fsync, replace = os.fsync, os.replace

    def synced(descriptor: int) -> None:
        events.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        fsync(descriptor)

    def renamed(*paths: Path) -> None:
        events.append("rename")
        replace(*paths)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", renamed)
    write_text(tmp_path / "a", "text")
    assert events == ["file", "rename", "folder"]
    events.clear()
    with create_folder_atomically(tmp_path / "b") as tmp:
        (tmp / "c").write_text("text")
    assert events == ["file", "folder", "rename", "folder"]


def test_a_folder_appears_whole_and_the_first_writer_wins(tmp_path: Path) -> None:
    with create_folder_atomically(tmp_path / "a") as slow:
        (slow / "x").write_text("slow")
        assert not (tmp_path / "a").exists()
        with create_folder_atomically(tmp_path / "a") as quick:
            (quick / "x").write_text("quick")
    assert (tmp_path / "a" / "x").read_text() == "quick"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_folder_does_not_take_the_place_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("file")
    with pytest.raises(OSError, match="directory"), create_folder_atomically(tmp_path / "a"):
        pass
    assert (tmp_path / "a").read_text() == "file"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def renames(tree: ast.AST) -> set[str]:
    """Calls of os.replace and its like, also `Path.rename`, in a file."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            names |= {node.attr} & RENAMES.get(node.value.id, set())
        if isinstance(node, ast.ImportFrom) and node.module in RENAMES:
            names |= {alias.name for alias in node.names} & RENAMES[node.module]
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "rename":
            names.add("rename")
        if isinstance(node, ast.Attribute) and node.attr in ("mkstemp", "NamedTemporaryFile"):
            names.add(node.attr)
    return names


def test_nothing_else_in_the_package_renames_files() -> None:
    calls = {
        path.relative_to(PACKAGE).as_posix(): renames(ast.parse(path.read_text())) for path in PACKAGE.rglob("*.py")
    }
    assert {name: names for name, names in calls.items() if names} == MAY_RENAME
