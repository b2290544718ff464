"""One batch is learnt by heart, by every kind; where it is not, the run says so."""

import json
from pathlib import Path
from typing import Any

import pytest

from protoformer.config.compose import compose
from protoformer.errors import ConfigurationError, NotOverfittedError
from protoformer.runs.metrics import read_metrics
from protoformer.training.run import train

from ...forked_ranks import forked_ranks

COMMON = [
    *("source=sample", "init_from=scratch", "tracking=none", "debug=overfit", "hardware=cpu", "hardware.threads=1"),
    *("recipe.lr=1e-2", "recipe.batch_size=4", "trainer.max_steps=150", "trainer.log_every=1"),
]  # fmt: skip
BERT = ["model=bert_l2_h128", "model.d_model=32", "model.d_ff=64", "task.max_len=24"]
KINDS = {
    "classification": [*BERT, "task=glue/mrpc", "source.rows=48"],
    "regression": [*BERT, "task=glue/stsb", "source.rows=48"],
    "choice": [*BERT, "task=swag", "source.rows=48"],
    "span": [*BERT, "task=squad/v1", "task.max_len=48", "task.data.stride=16", "source.rows=48"],
    "masked": [*BERT, "task=pretrain/mlm_nsp", "trainer.overfit=0.2"],
    "language model": [*("model=gpt2_tiny", "task=pretrain/clm", "task.max_len=32"), "trainer.overfit=0.3"],
    "translation": ["model=transformer_tiny", "task=translate/multi30k_en_de", "source.rows=48", "trainer.overfit=0.2"],
}
SLOW = ("regression", "choice", "translation")


def config(folder: Path, *overrides: str) -> dict[str, Any]:
    return compose([*COMMON, f"paths.outputs={folder}/out", f"paths.cache={folder}/cache", *overrides])


@pytest.mark.parametrize("kind", [pytest.param(k, marks=pytest.mark.slow) if k in SLOW else k for k in KINDS])
def test_every_kind_learns_one_batch_by_heart(tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str) -> None:
    settings = config(tmp_path, *KINDS[kind])
    train(settings, "")
    (file,) = (tmp_path / "out").rglob("result.json")
    steps = json.loads(file.read_text(encoding="utf-8"))["training"]["steps"]
    assert 0 < steps < 150
    losses = [line["train/loss"] for line in read_metrics(file.parent / "metrics.jsonl") if "train/loss" in line]
    assert losses[-1] < losses[0] / 4
    assert "debug=overfit: the loss of one batch went from" in capsys.readouterr().err


def test_a_loss_that_stays_up_ends_the_run_with_its_own_exit_code_also_when_it_is_continued(tmp_path: Path) -> None:
    settings = config(tmp_path, *KINDS["classification"], "recipe.lr=1e-6", "trainer.max_steps=3")
    for _ in range(2):
        with pytest.raises(
            NotOverfittedError, match=r"went from 0\.\d+ to 0\.\d+ in 3 steps, and not below 0\.05"
        ) as caught:
            train(settings, "")
        assert caught.value.exit_code == 6
    assert not list((tmp_path / "out").rglob("result.json"))


def test_ranks_and_micro_batches_learn_the_same_batch(tmp_path: Path) -> None:
    curves = []
    for name, words in {"whole": [], "parts": ["hardware=ddp_cpu", "hardware.micro_batch=1"]}.items():
        with forked_ranks(), pytest.raises(NotOverfittedError):
            train(
                config(tmp_path / name, *KINDS["classification"], "trainer.max_steps=4", *words),
                "",
            )
        (file,) = (tmp_path / name).rglob("metrics.jsonl")
        lines = [line for line in read_metrics(file) if "train/loss" in line]
        assert {line["train/lr"] for line in lines} == {1e-2}  # no warm-up, no decay
        curves.append([line["train/loss"] for line in lines])
    assert len(curves[0]) == 4
    assert curves[1] == pytest.approx(curves[0], rel=1e-3)  # without dropout


@pytest.mark.parametrize("key", ["overfit=0.05", "profile=5"])
def test_a_task_that_trains_nothing_is_refused(tmp_path: Path, key: str) -> None:
    words = [
        *KINDS["classification"],
        "task.splits.train=null",
        "task.needs_head=false",
        "trainer.overfit=null",
        f"trainer.{key}",
    ]
    with pytest.raises(ConfigurationError, match=rf"trainer\.{key} is of training steps, and task=\S+ trains nothing"):
        train(config(tmp_path, *words), "")


def test_without_a_number_of_steps_it_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"trainer\.overfit needs a number of steps"):
        train(config(tmp_path, *KINDS["classification"], "trainer.max_steps=-1"), "")
