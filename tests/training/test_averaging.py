"""The mean of a run's last checkpoints: what it is, which ones it is of, and that a run is known by it."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from protoformer.errors import RunFolderError
from protoformer.models.weights import read_pickle
from protoformer.runs.folder import RunFolder
from protoformer.training.callbacks import averaging
from protoformer.training.callbacks.averaging import SaveSnapshots, average, snapshots, step_of


class Net(nn.Module):
    def is_over(self, step: int) -> bool:
        return step >= 10

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(3))
        self.count: Tensor
        self.register_buffer("count", torch.tensor(0))


def trained(keep: SaveSnapshots, net: Any, steps: range, validate: int | None = None) -> None:
    loop = SimpleNamespace(_should_accumulate=lambda: False)  # see training.lightning_internals
    trainer: Any = SimpleNamespace(
        is_global_zero=True,
        fit_loop=loop,
        strategy=SimpleNamespace(lightning_module_state_dict=net.state_dict),
        sanity_checking=False,
        state=SimpleNamespace(fn="fit"),
        global_step=steps.start,
    )
    keep.on_train_start(trainer, net)
    for step in steps:
        trainer.global_step = step + 1
        net.weight.data.fill_(float(step + 1))
        net.count.fill_(step + 1)
        keep.on_train_batch_end(trainer, net, None, None, step)
        if validate and (step + 1) % validate == 0:
            keep.on_validation_end(trainer, net)


def test_the_last_ones_by_steps_the_very_last_among_them(tmp_path: Path) -> None:
    trained(SaveSnapshots(tmp_path / "s", 3, every_n_steps=4), Net(), range(10))
    assert [step_of(path) for path in snapshots(tmp_path / "s")] == [4, 8, 10]
    trained(SaveSnapshots(tmp_path / "t", 2, every_n_steps=3), Net(), range(10))
    assert [step_of(path) for path in snapshots(tmp_path / "t")] == [9, 10]


def test_the_last_ones_by_validations(tmp_path: Path) -> None:
    trained(SaveSnapshots(tmp_path / "s", 3, every_n_steps=None), Net(), range(10), validate=2)
    assert [step_of(path) for path in snapshots(tmp_path / "s")] == [6, 8, 10]


def test_a_run_that_goes_on_drops_what_it_does_again(tmp_path: Path) -> None:
    keep = SaveSnapshots(tmp_path / "s", 5, every_n_steps=1)
    trained(keep, Net(), range(8))
    trained(keep, Net(), range(5, 6))
    assert [step_of(path) for path in snapshots(tmp_path / "s")] == [4, 5, 6]


def test_the_mean_and_that_it_is_found_again(tmp_path: Path) -> None:
    target = tmp_path / "averaged.ckpt"
    trained(SaveSnapshots(tmp_path / "s", 3, every_n_steps=4), Net(), range(10))
    assert average(tmp_path / "s", target, 3) == [4, 8, 10]
    content = read_pickle(target)
    torch.testing.assert_close(content["state_dict"]["weight"], torch.full((3,), 22 / 3))
    assert content["state_dict"]["count"] == 10  # a count has no mean
    assert not (tmp_path / "s").exists()
    assert average(tmp_path / "s", target, 3) == [4, 8, 10]  # the run was stopped right after
    with pytest.raises(RunFolderError, match="no snapshots"):
        average(tmp_path / "s", tmp_path / "other.ckpt", 3)


@pytest.mark.parametrize("removed_before", [0, 1, 2])
def test_a_kill_while_snapshots_are_removed_changes_no_average(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, removed_before: int
) -> None:
    folder, target = tmp_path / "s", tmp_path / "averaged.ckpt"
    trained(SaveSnapshots(folder, 3, every_n_steps=4), Net(), range(10))

    def killed(path: Path, ignore_errors: bool = False) -> None:
        for snapshot in snapshots(path)[:removed_before]:
            snapshot.unlink()
        raise InterruptedError

    with monkeypatch.context() as patch:
        patch.setattr(averaging.shutil, "rmtree", killed)
        with pytest.raises(InterruptedError):
            average(folder, target, 3)
    written = target.read_bytes()
    assert average(folder, target, 3) == [4, 8, 10]
    assert target.read_bytes() == written
    assert not folder.exists()


def test_a_run_is_known_by_its_mean(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    for name in ("best", "last", "averaged"):
        (tmp_path / "checkpoints" / f"{name}.ckpt").touch()
    assert RunFolder(tmp_path, "x").chosen_checkpoint.name == "averaged.ckpt"
