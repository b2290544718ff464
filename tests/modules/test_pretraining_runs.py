"""Pretraining in the trainer: micro-batches, targets of a global batch, a run that goes on across its phases."""

import itertools
import json
import shutil
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from torch import Tensor

from protoformer.config.compose import compose
from protoformer.data.batching.samplers import BatchConfig
from protoformer.models import weights
from protoformer.optim.optimization import Optimization
from protoformer.runs.metrics import read_metrics
from protoformer.training.lightning_internals import is_accumulating
from protoformer.training.run import train

from .pretraining_cases import assert_same, full_loss, gradients, loader, module


def fitted(micro: int | None, size: int = 8, nsp: bool = True) -> tuple[list[dict[str, Any]], list[dict[str, Tensor]]]:
    """Numbers and gradients (before the clip, which is off) of every step."""
    ours = module(nsp, optimization=Optimization(1e-2, clip=None))
    numbers: list[dict[str, Any]] = []
    recorded: list[dict[str, Tensor]] = []

    class Look(pl.Callback):
        def on_train_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
            if not is_accumulating(trainer):
                numbers.append(ours.step_metrics.named())
                recorded.append(gradients(ours))

    trainer = pl.Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, use_distributed_sampler=False, max_epochs=1, callbacks=[Look()],
        accumulate_grad_batches=BatchConfig(size, micro).accumulation,
    )  # fmt: skip
    trainer.fit(ours, loader(micro, size=size))
    assert trainer.global_step == 4
    return numbers, recorded


@pytest.mark.parametrize("nsp", [True, False])
@pytest.mark.parametrize("micro", [1, 3])
def test_micro_batches_equal_the_whole_batch(micro: int, nsp: bool) -> None:
    """Each part of the loss is a mean over targets of its own, of which every micro-batch has as many as it likes."""
    counts = [batch["targets"].tolist() for batch in loader(micro)]
    assert len({pair[0] for pair in counts}) > 3
    assert len({pair[1] for pair in counts}) > 1
    whole, whole_gradients = fitted(None, nsp=nsp)
    parts, part_gradients = fitted(micro, nsp=nsp)
    assert len(whole) == len(parts) == 4
    for one, other, expected, actual in zip(whole, parts, whole_gradients, part_gradients, strict=True):
        assert other == pytest.approx(one, rel=1e-4)
        assert_same(actual, expected, rtol=1e-3)
    plain = module(nsp)
    batch = next(iter(loader()))
    loss = full_loss(plain, batch)
    loss.backward()
    assert_same(part_gradients[0], gradients(plain), rtol=1e-3)
    first = parts[0]
    assert first["train/loss"] == pytest.approx(float(loss.detach()), rel=1e-4)
    if nsp:
        assert first["train/mlm_loss"] + first["train/nsp_loss"] == pytest.approx(first["train/loss"], rel=1e-4)


def test_the_loader_foretells_the_targets_of_a_global_batch() -> None:
    batches = list(loader(3))
    for start in range(0, len(batches), 3):
        group = batches[start : start + 3]
        together = torch.stack([batch["targets"] for batch in group]).sum(0)
        assert all(torch.equal(batch["step_targets"], together) for batch in group)
    assert [len(batch["ids"]) for batch in itertools.islice(batches, 3)] == [3, 3, 2]


# --- a whole run

RUN = [
    "model=bert_l2_h128",
    "task=pretrain/mlm_nsp",
    "source=sample",
    "source.rows=80",
    "trainer.keep_optimizer=true",
    "tracking=none",
    "model.d_model=16",
    "model.d_ff=32",
    "recipe.batch_size=8",
    "recipe.max_steps=8",
    "recipe.warmup=2",
    "recipe.lr=3e-3",
    "trainer.val_check_interval=3",
    "trainer.limit_val_batches=2",
    "trainer.log_every=1",
    "trainer.checkpoint_every=1",
    "task.max_len=32",
    "task.data.phases=[{share:0.5,max_len:16,max_predictions:2},{share:0.5,max_len:32,max_predictions:5}]",
    "hardware.threads=1",
    "hardware.micro_batch=3",
]


SPEEDS = ("time", *(f"train/{name}" for name in ("examples_per_s", "tokens_per_s", "flops_per_s", "mfu", "data_wait")))


def config(outputs: Path) -> dict[str, Any]:
    return compose([*RUN, f"paths.outputs={outputs}", f"paths.cache={outputs.parent / 'cache'}"])


def only_run(outputs: Path) -> Path:
    return next(outputs.glob("*/pretrain/mlm_nsp/*/config.yaml")).parent


def what_counts(run: Path) -> dict[str, Any]:
    lines = [{k: v for k, v in line.items() if k not in SPEEDS} for line in read_metrics(run / "metrics.jsonl")]
    result = json.loads((run / "result.json").read_text(encoding="utf-8"))
    state = weights.read_pickle(run / "checkpoints" / "last.ckpt")["state_dict"]
    return {
        "lines": lines,
        "result": {key: result[key] for key in ("score", "metrics", "best", "run_id")},
        "steps": result["training"]["steps"],
        "weights": {name: tensor.tolist() for name, tensor in state.items()},
    }


def test_a_run_goes_on_exactly_before_and_after_the_border_of_its_phases(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders: dict[int, Path] = {}
    save = pl.Trainer.save_checkpoint

    def save_and_keep(self: pl.Trainer, path: Any, *args: Any, **kwargs: Any) -> None:
        save(self, path, *args, **kwargs)
        step = self.global_step
        if Path(path).name == "last.ckpt" and step not in folders:
            folders[step] = tmp_path / f"folder-{step}"
            shutil.copytree(Path(path).parents[1], folders[step], ignore=shutil.ignore_patterns("lock"))

    with monkeypatch.context() as patched:
        patched.setattr(pl.Trainer, "save_checkpoint", save_and_keep)
        train(config(tmp_path / "whole"), "")
    whole = only_run(tmp_path / "whole")
    expected = what_counts(whole)
    assert expected["steps"] == 8
    assert sorted(folders) == list(range(1, 9))
    trained = [line for line in expected["lines"] if "train/mlm_loss" in line]
    assert [line["step"] for line in trained] == list(range(1, 9))
    assert all("train/nsp_accuracy" in line for line in trained)
    validated = [line for line in expected["lines"] if "val/score" in line]
    assert [line["step"] for line in validated][:2] == [3, 6]
    assert {"val/mlm_accuracy", "val/mlm_perplexity", "val/nsp_accuracy", "val/loss"} <= set(validated[0])
    for step in (2, 4, 5):  # within the first phase, at the border, within the second
        outputs = tmp_path / f"again-{step}"
        shutil.copytree(folders[step], outputs / whole.relative_to(tmp_path / "whole"))
        train(config(outputs), "")
        assert what_counts(only_run(outputs)) == expected, f"continued from step {step}"
