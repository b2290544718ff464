"""Run folders with something in them that a run cannot use end in one line with exit code 2, and stay as they are."""

import contextlib
import ctypes
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch

from protoformer.commands.train import main
from protoformer.models.weights import read_pickle
from protoformer.training.callbacks.step_logger import StepLogger

from ..forked_ranks import forked_ranks

WORDS = (
    "model=bert_l2_h128",
    "model.d_model=16",
    "model.d_ff=32",
    "task=glue/mrpc",
    "task.max_len=24",
    "source=sample",
    "source.rows=60",
    "init_from=scratch",
    "tracking=none",
    "recipe.batch_size=8",
    "recipe.max_steps=3",
    "trainer.checkpoint_every=1",
    "trainer.keep_optimizer=true",
    "hardware.threads=1",
)


@pytest.fixture(scope="module")
def unfinished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Outputs with a run that was stopped after its second step of three."""
    folder = tmp_path_factory.mktemp("unfinished")

    def stop(self: StepLogger, trainer: Any, module: Any, *rest: Any) -> None:
        module.stop.signal_number = 15 * (trainer.global_step >= 1)

    with mock.patch.object(StepLogger, "on_train_batch_start", stop):
        assert main([*WORDS, f"paths.outputs={folder / 'out'}", f"paths.cache={folder / 'cache'}"]) == 143
    (last,) = folder.rglob("last.ckpt")
    shutil.rmtree(last.parent / "earlier")
    return folder


class Effective(ctypes.Structure):
    """`struct __user_cap_data_struct` of Linux."""

    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


@contextlib.contextmanager
def permissions_count() -> Iterator[None]:
    """Within the block root has no more rights to files than others (man 7 capabilities: CAP_DAC_OVERRIDE, ..._READ_SEARCH)."""
    if sys.platform != "linux":
        pytest.skip("capabilities are Linux's")
    libc, data = ctypes.CDLL(None), (Effective * 2)()
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    assert libc.capget(header, data) == 0
    before = data[0].effective
    data[0].effective &= ~0b110
    assert libc.capset(header, data) == 0
    try:
        yield
    finally:
        data[0].effective = before
        assert libc.capset(header, data) == 0


def other_shapes(run: Path) -> None:
    last = run / "checkpoints" / "last.ckpt"
    content = read_pickle(last)
    content["state_dict"]["head.linear.bias"] = torch.zeros(3)
    torch.save(content, last)


def other_names(run: Path) -> None:
    last = run / "checkpoints" / "last.ckpt"
    content = read_pickle(last)
    content["state_dict"] = {name.replace("stack", "decoder"): each for name, each in content["state_dict"].items()}
    torch.save(content, last)


def no_checkpoint(run: Path) -> None:
    torch.save({"weights": torch.zeros(2)}, run / "checkpoints" / "last.ckpt")


def a_file(run: Path) -> None:
    shutil.rmtree(run / "checkpoints")
    (run / "checkpoints").write_text("")


CHANGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "other shapes": (
        other_shapes,
        "last.ckpt is a checkpoint of another model: head.linear.bias is [3] there, [2] in this",
    ),
    "other names": (other_names, "last.ckpt is a checkpoint of another model: backbone.stack.layers.0"),
    "no checkpoint": (no_checkpoint, "last.ckpt is no checkpoint of a run: it has no state_dict and global_step"),
    "a file for the folder": (a_file, "checkpoints is a file, where the run needs a folder: move it away"),
    "a folder that may not be read": (lambda run: (run / "checkpoints").chmod(0), "last.ckpt: Permission denied"),
    "a file that may not be read": (
        lambda run: (run / "checkpoints" / "last.ckpt").chmod(0),
        "last.ckpt: Permission denied",
    ),
    "a folder that may not be written": (lambda run: run.chmod(0o555), "Permission denied"),
    "checkpoints that may not be written": (lambda run: (run / "checkpoints").chmod(0o555), "Permission denied"),
}


@pytest.mark.parametrize("hardware", ["cpu", pytest.param("ddp_cpu", marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", CHANGES)
def test_what_cannot_be_continued_is_one_line(
    unfinished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, hardware: str
) -> None:
    change, message = CHANGES[name]
    shutil.copytree(unfinished / "out", tmp_path / "out")
    (config,) = (tmp_path / "out").rglob("config.yaml")
    change(config.parent)
    words = [*WORDS, f"paths.outputs={tmp_path / 'out'}", f"paths.cache={unfinished / 'cache'}", f"hardware={hardware}"]
    try:
        with permissions_count(), forked_ranks():
            code = main(words)
    finally:
        config.parent.chmod(0o755)
    lines = capsys.readouterr().err.splitlines()
    assert code == 2, lines
    errors = [line for line in lines if line.startswith("error: ")]
    assert len(errors) == 1
    assert message in errors[0]
    assert "Traceback" not in "".join(lines)
    assert config.exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["hardware.devices=[7]"], "hardware.devices=[7] does not fit; expected a whole number or all"),
        (["hardware=gpu", "hardware.devices=3"], "torch finds no GPU; use hardware=cpu or hardware=auto"),
        (
            ["hardware=ddp", "hardware.devices=3"],
            "hardware.devices=3, but torch finds 2 GPUs; hardware.devices=all uses",
        ),
        (["hardware=fsdp"], "torch finds no GPU; use hardware=cpu or hardware=auto"),
    ],
)
def test_a_device_that_is_not_there_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: "GPUs" in message)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert main([*WORDS, *words, f"paths.outputs={tmp_path / 'out'}", f"paths.cache={tmp_path / 'cache'}"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
