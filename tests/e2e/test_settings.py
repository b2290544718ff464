"""Hardware and recipe settings run from end to end, and those that must not change a number do not."""

from pathlib import Path

import pytest

from protoformer.commands import train
from protoformer.models.weights import read_checkpoint

from .commands import SMALL, Workspace, curve, result

SHORT = [*SMALL, "recipe.epochs=1", "trainer.limit_train_batches=6", "trainer.log_every=1", "model.dropout=0"]


def run(folder: Path, *overrides: str) -> Path:
    outputs = folder / ("other" if overrides else "plain")
    assert train.main([*SHORT, *overrides, f"paths.outputs={outputs}", f"paths.cache={folder / 'cache'}"]) == 0
    (actual,) = outputs.rglob("result.json")
    return actual.parent


def losses(folder: Path) -> list[float]:
    return [line["train/loss"] for line in curve(folder) if "train/loss" in line]


@pytest.mark.parametrize(
    ("overrides", "tolerance"),
    [
        (["hardware.packing=off"], 1e-5),
        (["trainer.deterministic=true"], 1e-9),
        (["hardware.precision=bf16"], 2e-2),
        pytest.param(["hardware.workers=2"], 1e-9, marks=pytest.mark.slow),
    ],
    ids=lambda value: str(value),
)
def test_the_same_losses(tmp_path: Path, overrides: list[str], tolerance: float) -> None:
    plain, other = run(tmp_path), run(tmp_path, *overrides)
    assert len(losses(other)) == 6
    assert losses(other) == pytest.approx(losses(plain), rel=tolerance)


@pytest.mark.slow
@pytest.mark.parametrize("hardware", ["cpu", "fsdp_cpu"])
def test_a_compiled_model_has_the_same_losses_and_checkpoint_keys(tmp_path: Path, hardware: str) -> None:
    workspace = Workspace(tmp_path)  # a process of its own: the tests' shape checks cannot be traced
    completed = workspace.run(*SHORT, f"hardware={hardware}", "hardware.compile=true")
    assert completed.returncode == 0, completed.stderr
    (folder,) = workspace.runs()
    plain = run(tmp_path)
    assert losses(folder) == pytest.approx(losses(plain), rel=1e-4)
    keys = [
        set(read_checkpoint(workspace / "checkpoints" / "best.ckpt")["state_dict"]) for workspace in (folder, plain)
    ]
    assert keys[0] == keys[1]


def test_length_grouped_batches_learn_too(tmp_path: Path) -> None:
    folder = run(tmp_path, "recipe.batching=length_grouped", "hardware.packing=off")
    assert len(losses(folder)) == 6
    assert 0 <= result(folder)["score"] <= 1


def test_a_model_without_published_weights_starts_from_scratch_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    overrides = [word for word in SHORT if not word.startswith("init_from")]
    overrides += ["model.hf.repo=null", f"paths.outputs={tmp_path}", f"paths.cache={tmp_path / 'cache'}"]
    assert train.main(overrides) == 0
    assert "bert_l2_h128 has no published weights: starting from scratch" in capsys.readouterr().err
    tested = [word for word in overrides if not word.startswith("task=")] + ["task=glue/ax"]
    assert train.main(tested) == 2
    assert "init_from=" in capsys.readouterr().err
    assert train.main([*tested, "init_from=scratch"]) == 2
    assert "give a trained run as init_from=" in capsys.readouterr().err
