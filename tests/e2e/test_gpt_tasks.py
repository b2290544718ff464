"""Decoders on every task: the eleven, and what GPT's paper tried besides; with the language model beside the task."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from protoformer import cli
from protoformer.commands import train
from protoformer.runs.metrics import read_metrics

from .commands import SMALL, Workspace, result

TINY = [
    "model.d_model=16",
    "model.d_ff=32",
    "model.init_std=0.1",
    "source=sample",
    "source.rows=64",
    "task.max_len=96",
    "recipe.batch_size=8",
    "recipe.epochs=1",
    "recipe.lr=1e-2",
    "init_from=scratch",
    "tracking=none",
    "trainer.log_every=1",
    "hardware.threads=1",
]
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
    "snli": {"accuracy"},
    "scitail": {"accuracy"},
    "race/all": {"accuracy"},
    "race/middle": {"accuracy"},
    "race/high": {"accuracy"},
    "story_cloze": {"accuracy"},
}
PUBLIC = {"glue/mrpc", "snli", "scitail", "race/all", "race/middle", "race/high", "story_cloze"}  # test labels
MODELS = {  # and which of their tasks the default suite runs
    "gpt2_tiny": SCORES.keys() - {"glue/sst2", "glue/qqp", "glue/qnli", "glue/rte", "snli", "race/middle", "race/high"},
    "gpt_tiny": {"glue/stsb", "squad/v2", "story_cloze"},
}
PAIRS = [
    pytest.param(model, task, marks=[] if task in quick else pytest.mark.slow)
    for model, quick in MODELS.items()
    for task in SCORES
]


def run(outputs: Path, *overrides: str) -> Path:
    before = set(outputs.rglob("result.json"))
    assert train.main([*TINY, *overrides, f"paths.outputs={outputs}", f"paths.cache={outputs.parent / 'cache'}"]) == 0
    (new,) = set(outputs.rglob("result.json")) - before
    return new.parent


def predictions(folder: Path, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "predictions" / f"{name}.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(("model", "task"), PAIRS)
def test_every_task_runs_with_its_language_beside_it(model: str, task: str, tmp_path: Path) -> None:
    folder = run(tmp_path / "outputs", f"model={model}", f"task={task}")
    actual = result(folder)["metrics"]
    assert {f"val/{name}" for name in SCORES[task]} | {"val/score"} <= actual.keys()
    assert any(key.startswith("test/") for key in actual) == (task in PUBLIC)
    assert all(math.isfinite(value) for value in actual.values())
    curve = [line for line in read_metrics(folder / "metrics.jsonl") if "train/lm_loss" in line]
    first, last = curve[0]["train/lm_loss"], curve[-1]["train/lm_loss"]
    assert last < first - 0.15  # it learns to tell words
    for line in curve:  # equation 5: what is left of the loss is the task's own
        assert line["train/loss"] - 0.5 * line["train/lm_loss"] > 0
    assert predictions(folder, "val_matched" if task == "glue/mnli" else "val")


def test_rows_of_their_own_kinds(tmp_path: Path) -> None:
    """No label, no rows: SNLI's are left out of dev and count nowhere in test. Story Cloze has a dev set of a fifth."""
    snli = run(tmp_path / "outputs", "model=gpt2_tiny", "task=snli", "source.rows=200", "recipe.batch_size=64")
    assert result(snli)["data"]["validation"]["skipped"] > 0
    assert len(predictions(snli, "val")) == 200 - result(snli)["data"]["validation"]["skipped"]
    tested = predictions(snli, "test")
    labelled = [line for line in tested if line["label"] is not None]
    assert 180 < len(labelled) < len(tested) == 200
    right = sum(line["prediction"] == line["label"] for line in labelled) / len(labelled)
    assert result(snli)["metrics"]["test/accuracy"] == pytest.approx(right)
    story = run(tmp_path / "outputs", "model=gpt2_tiny", "task=story_cloze")
    assert len(predictions(story, "val")) == 13
    assert len(predictions(story, "test")) == 64
    assert result(story)["training"]["steps"] == 7


def test_a_lambda_below_0_and_one_for_an_encoder_are_told_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for overrides, message in {
        (
            "model=gpt2_tiny",
            "recipe.aux_lm_weight=-0.5",
        ): "recipe.aux_lm_weight=-0.5 is out of range; expected a value at",
        ("model=bert_l2_h128", "recipe.aux_lm_weight=0.5"): "recipe.aux_lm_weight=0.5 needs a decoder (gpt, gpt2, ...)",
    }.items():
        assert train.main([*TINY, *overrides, "task=glue/rte", f"paths.outputs={tmp_path}"]) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1


def test_what_a_trained_decoder_says_of_a_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Similarity is asked in both orders, so that it does not matter which text comes first."""
    outputs = tmp_path / "outputs"
    runs = {task: run(outputs, "model=gpt2_tiny", f"task={task}") for task in ("glue/stsb", "glue/rte", "race/middle")}
    one, other = "the doctor bought the lamp .", "the lamp was sold ."
    said = []
    for task in ("glue/stsb", "glue/rte"):
        for first, second in ((one, other), (other, one)):
            capsys.readouterr()
            assert cli.main(["predict", str(runs[task]), "--text", first, "--pair", second]) == 0
            said.append(capsys.readouterr().out)
    assert said[0] == said[1]
    assert said[2] != said[3]
    choices = [word for text in ("the doctor", "the nurse", "the cook") for word in ("--choice", text)]
    assert cli.main(["predict", str(runs["race/middle"]), "--text", f"{one} who bought the lamp ?", *choices]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 4


@pytest.mark.slow
@pytest.mark.parametrize("task", ["glue/mrpc", "squad/v2", "swag", "race/middle", "story_cloze"])
def test_two_processes_do_as_one_does(task: str, tmp_path: Path) -> None:
    """The language model's share of the loss too: sequences of unequal length, on ranks and in micro-batches."""
    workspace = Workspace(tmp_path)
    small = [word for word in SMALL if not word.startswith(("task=", "model=", "recipe.lr", "source.rows"))]
    overrides = [*small, "model=gpt2_tiny", f"task={task}", "source.rows=50", "recipe.epochs=1", "task.max_len=96"]
    overrides += ["model.dropout=0.0", "hardware.micro_batch=3", "trainer.log_every=1"]
    metrics, curves = [], []
    for hardware in ("cpu", "ddp_cpu"):
        completed = workspace.run_here(*overrides, f"hardware={hardware}", outputs=hardware)
        assert completed.returncode == 0, completed.stderr
        (folder,) = workspace.runs(hardware)
        metrics.append(result(folder)["metrics"])
        lines = [line for line in read_metrics(folder / "metrics.jsonl") if "train/lm_loss" in line]
        curves.append([(line["train/loss"], line["train/lm_loss"], line["train/grad_norm"]) for line in lines])
    assert metrics[0].keys() == metrics[1].keys()
    for name, value in metrics[0].items():
        assert metrics[1][name] == pytest.approx(value, rel=1e-4), name
    for one, two in zip(*curves, strict=True):
        assert two == pytest.approx(one, rel=1e-4)
