"""The 2017 encoder, RNN and CNN on every task: the eleven, pretraining, running text, translation; and what they learn."""

import json
import math
from pathlib import Path

import pytest

from protoformer import cli
from protoformer.commands import train
from protoformer.runs.metrics import read_metrics

from .commands import Workspace, result

TINY = [
    "model.d_model=16",
    "source=sample",
    "recipe.lr=3e-3",
    "init_from=scratch",
    "tracking=none",
    "trainer.log_every=1",
    "hardware.threads=1",
]
FEW = ["source.rows=48", "task.max_len=96", "recipe.batch_size=8", "recipe.epochs=1"]
SCORES = {
    "glue/cola": {"matthews_correlation"},
    "glue/sst2": {"accuracy"},
    "glue/mrpc": {"accuracy", "f1"},
    "glue/stsb": {"pearson", "spearman"},
    "glue/qqp": {"accuracy", "f1"},
    "glue/mnli": {"matched/accuracy", "mismatched/accuracy"},
    "glue/qnli": {"accuracy"},
    "glue/rte": {"accuracy"},
    "squad/v1": {"exact_match", "f1"},
    "squad/v2": {"exact_match", "f1", "HasAns/f1", "NoAns/f1"},
    "swag": {"accuracy"},
}
MODELS = ("transformer_encoder_tiny", "rnn_tiny", "cnn_tiny")
QUICK = {
    "transformer_encoder_tiny": {"squad/v2"},
    "rnn_tiny": {"swag", "squad/v2"},
    "cnn_tiny": {"glue/stsb", "squad/v2"},
}
MORE = ("cnn_dilated", "cnn_separable")
PAIRS = [
    pytest.param(model, task, marks=[] if task in QUICK.get(model, ()) else pytest.mark.slow)
    for model in (*MODELS, *MORE)
    for task in SCORES
]


def run(outputs: Path, *overrides: str) -> Path:
    before = set(outputs.rglob("result.json"))
    assert train.main([*TINY, *overrides, f"paths.outputs={outputs}", f"paths.cache={outputs.parent / 'cache'}"]) == 0
    (new,) = set(outputs.rglob("result.json")) - before
    return new.parent


@pytest.mark.parametrize(("model", "task"), PAIRS)
def test_every_task_runs(model: str, task: str, tmp_path: Path) -> None:
    stride = ["task.data.stride=32"] if task.startswith("squad") else []
    folder = run(tmp_path / "outputs", f"model={model}", f"task={task}", *FEW, *stride)
    actual = result(folder)["metrics"]
    assert {f"val/{name}" for name in SCORES[task]} | {"val/score"} <= actual.keys()
    assert all(math.isfinite(value) for value in actual.values())
    assert list((folder / "predictions").rglob("*.jsonl"))


@pytest.mark.parametrize("model", ["rnn_tiny", "cnn_tiny"])
def test_running_text_is_learnt_and_gone_on_with_into_a_task(model: str, tmp_path: Path) -> None:
    """A language model; then a task from it, in the same role, with the language beside it."""
    outputs = tmp_path / "outputs"
    overrides = ["source.rows=200", "task.max_len=32", "recipe.batch_size=16", "recipe.max_steps=30", "recipe.warmup=3"]
    overrides += ["recipe.lr=1e-2"]
    pretrained = run(outputs, f"model={model}", "task=pretrain/clm", *overrides)
    curve = [line["train/loss"] for line in read_metrics(pretrained / "metrics.jsonl") if "train/loss" in line]
    assert sum(curve[-3:]) / 3 < curve[0] - 0.5
    assert (pretrained / "predictions" / "val.jsonl").read_text()  # it writes samples, step by step
    tuned = run(outputs, f"model={model}", "task=glue/rte", *FEW, f"init_from={pretrained}", "recipe.aux_lm_weight=0.5")
    assert result(tuned)["digests"]["weights"] != "scratch"
    assert any("train/lm_loss" in line for line in read_metrics(tuned / "metrics.jsonl"))


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
def test_masked_words_are_learnt_and_filled_in(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    overrides = ["source.rows=200", "task.max_len=48", "recipe.max_steps=30", "recipe.warmup=3", "recipe.batch_size=16"]
    pretrained = run(tmp_path / "outputs", f"model={model}", "task=pretrain/mlm_nsp", *overrides)
    assert {"val/mlm_accuracy", "val/nsp_accuracy"} <= result(pretrained)["metrics"].keys()
    capsys.readouterr()
    assert cli.main(["predict", str(pretrained), "--text", "the [MASK] found the key ."]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 6
    tuned = run(
        tmp_path / "outputs", f"model={model}", "task=squad/v1", *FEW, "task.data.stride=32", f"init_from={pretrained}"
    )
    assert result(tuned)["digests"]["weights"] != "scratch"


def test_a_plan_counts_them(capsys: pytest.CaptureFixture[str]) -> None:
    for model in MODELS:
        assert cli.main(["plan", f"model={model}", "task=glue/rte", "source=sample", "task.max_len=16"]) == 0
        assert "FLOPs a token" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("model", [*MODELS, *MORE])
def test_a_task_is_learnt(model: str, tmp_path: Path) -> None:
    """Sentiment of held-out sample sentences, from scratch."""
    workspace = Workspace(tmp_path)
    small = ["recipe.epochs=5"] if model in MODELS else ["recipe.epochs=10", "model.d_model=64", "model.n_layers=5"]
    completed = workspace.run(
        f"model={model}", "task=glue/sst2", "source=sample", "tracking=none", "init_from=scratch", "hardware.threads=1",
        "source.rows=2000", "recipe.lr=1e-3", *small, seconds=900,
    )  # fmt: skip
    assert completed.returncode == 0, completed.stderr
    (folder,) = workspace.runs()
    lines = [json.loads(line) for line in (folder / "predictions" / "val.jsonl").read_text().splitlines()]
    assert sum(line["prediction"] == line["label"] for line in lines) / len(lines) > 0.8


@pytest.mark.slow
@pytest.mark.parametrize(
    "overrides", [["model=cnn_tiny"], ["model=rnn_tiny", "model.attention_score=additive", "recipe.epochs=12"]]
)
def test_translation_is_learnt(overrides: list[str], tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    always = ["experiment=demo_translation", "hardware=cpu", "hardware.threads=1", "trainer.check_val_every_n_epoch=2"]
    completed = workspace.run(*always, *overrides, seconds=900)
    assert completed.returncode == 0, completed.stderr
    (folder,) = workspace.runs()
    assert result(folder)["metrics"]["test/bleu"] > 0.9
