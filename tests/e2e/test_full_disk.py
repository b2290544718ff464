"""A disk that becomes full while a run trains: the run ends with one line and continues once there is room."""

import os
import resource
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from protoformer.runs.checkpoint_files import choose_whole_checkpoint
from protoformer.runs.folder import RunFolder

from ..soak.comparison import differences
from .commands import SMALL, Process, Workspace, error_line, finished, wait_for

WORDS = (*SMALL, "source.rows=96", "recipe.epochs=4", "trainer.checkpoint_every=3", "trainer.keep_optimizer=true")
PLENTY = 64 * 2**20  # bytes
ROOM = 64 * 1024  # bytes that are left, fewer than a checkpoint has


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path)


@pytest.fixture
def disk(workspace: Workspace) -> Iterator[Path]:
    """The folder for outputs on a file system of its own, in memory."""
    folder = workspace.folder / "outputs"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={PLENTY}", "none", str(folder)], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"a file system of its own needs root: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def leave(folder: Path, room: int) -> None:
    """Make the file system so small that `room` bytes are free, again where the run has written more by then."""
    for _ in range(100):
        status = os.statvfs(folder)
        used = (status.f_blocks - status.f_bfree) * status.f_frsize
        mounted = subprocess.run(
            ["mount", "-o", f"remount,size={used + room}", str(folder)], capture_output=True, text=True
        )
        if mounted.returncode == 0:
            return
    raise AssertionError(mounted.stderr)


def ends_full_and_continues(
    workspace: Workspace, words: tuple[str, ...], fill: Callable[[Process], None], make_room: Callable[[], None]
) -> None:
    whole = workspace.run(*words, outputs="whole")
    assert whole.returncode == 0, whole.stderr
    process = workspace.start(*words)
    wait_for(lambda: any((run / "checkpoints" / "earlier").is_dir() for run in workspace.runs()), process)
    fill(process)
    ended = finished(process)
    assert ended.returncode == 5, ended.stdout + ended.stderr
    assert "no space left" in error_line(ended)
    assert "the same command continues" in error_line(ended)
    (run,) = workspace.runs()
    assert list(run.rglob("*.part")) == []
    assert not (run / "lock").exists()
    choose_whole_checkpoint(RunFolder.open(run))  # says so where it is not whole
    make_room()
    again = workspace.run(*words)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "damaged" not in again.stderr
    assert "continuing from step" in again.stderr
    assert differences(workspace.runs("whole")[0], run) == []
    assert workspace.left_behind() == []


@pytest.mark.parametrize("hardware", ["cpu", pytest.param("ddp_cpu", marks=pytest.mark.slow)])
def test_a_full_file_system(workspace: Workspace, disk: Path, hardware: str) -> None:
    ends_full_and_continues(
        workspace,
        (*WORDS, f"hardware={hardware}"),
        fill=lambda process: leave(disk, ROOM),
        make_room=lambda: leave(disk, PLENTY),
    )


@pytest.mark.slow
def test_a_limit_on_the_size_of_files(workspace: Workspace) -> None:
    """As a quota: without a file system of its own, so everywhere."""

    def fill(process: Process) -> None:
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (ROOM, resource.RLIM_INFINITY))

    ends_full_and_continues(workspace, WORDS, fill, make_room=lambda: None)
