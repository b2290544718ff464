"""What follows on a sharded run, and what comes before its weights are divided."""

import json
from pathlib import Path
from unittest import mock

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import Callback

from protoformer.cli import main
from protoformer.distributed.sharding.units import full_tensor

from . import test_sharding
from .test_sharding import BERT, COMMON, GPT2, MRPC, curve, result, run


@pytest.mark.slow
def test_a_sharded_run_is_predicted_with_evaluated_and_started_from(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By one process, and `init_from` by another number of ranks."""
    trained = run(tmp_path / "out", "fsdp_cpu", *MRPC, "recipe.max_steps=2")
    assert main(["predict", str(trained), "--text", "the cat sees", "--pair", "the dog sees"]) == 0
    assert "equivalent" in capsys.readouterr().out
    assert main(["evaluate", str(trained)]) == 0
    score = f"{100 * result(trained)['metrics']['val/accuracy']:.2f}"
    assert score in capsys.readouterr().out
    again = (*MRPC, f"init_from={trained}", "recipe.max_steps=2")
    with mock.patch.object(test_sharding, "COMMON", tuple(word for word in COMMON if word != "init_from=scratch")):
        one = run(tmp_path / "one", "cpu", *again)
        three = run(tmp_path / "three", "fsdp_cpu", *again, "hardware.devices=3")
    assert curve(three) == [pytest.approx(step, rel=2e-4) for step in curve(one)]
    assert result(three)["hardware"]["ranks"] == 3


class ReadsEarly(Callback):
    """Reads weights before they are divided."""

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if stage == "fit":
            self.before = [parameter.detach().clone() for parameter in pl_module.parameters()]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        for before, parameter in zip(self.before, pl_module.parameters(), strict=True):
            assert torch.equal(full_tensor(parameter.detach()), before)


@pytest.mark.slow
def test_a_callback_of_the_user_s_own_reads_initial_weights_in_setup(tmp_path: Path) -> None:
    own = f"trainer.callbacks=[{{_target_: {__name__}.ReadsEarly}}]"
    trained = run(tmp_path / "out", "fsdp_cpu", *GPT2, "recipe.max_steps=1", own)
    assert len(curve(trained)) == 1


@pytest.mark.slow
def test_more_ranks_than_rows_count_each_once(tmp_path: Path) -> None:
    overrides = (*BERT, "task=glue/mrpc", "source.rows=2", "recipe.batch_size=2", "recipe.epochs=2")
    one = run(tmp_path / "one", "cpu", *overrides)
    for hardware in ("ddp_cpu", "fsdp_cpu"):
        three = run(tmp_path / hardware, hardware, *overrides, "hardware.devices=3")
        assert curve(three) == [pytest.approx(step, rel=2e-4) for step in curve(one)]
        for file in sorted((one / "predictions").iterdir()):
            rows = [
                [json.loads(line) for line in (folder / "predictions" / file.name).read_text().splitlines()]
                for folder in (one, three)
            ]
            assert [row["id"] for row in rows[0]] == [row["id"] for row in rows[1]] == [0, 1]
            assert [row["prediction"] for row in rows[0]] == [row["prediction"] for row in rows[1]]
