"""Spans, choices and pretraining from rows to files, on the sample; and what is learned there."""

import json
import random
from pathlib import Path
from typing import Any

import pytest

from protoformer import cli
from protoformer.commands import train

from .commands import SMALL, Workspace, result

TINY = [
    "model=bert_l2_h128",
    "model.d_model=16",
    "model.d_ff=32",
    "source=sample",
    "source.rows=48",
    "recipe.batch_size=8",
    "init_from=scratch",
    "tracking=none",
    "hardware.threads=1",
]
PRETRAINING = ["task=pretrain/mlm_nsp", "source.rows=200", "recipe.max_steps=6", "recipe.warmup=2", "task.max_len=48"]
COPA = """defaults: [_multiple_choice, _self_]
rows: {dataset: aps/super_glue, subset: copa, context: premise, stem: question, choices: [choice1, choice2]}
splits: {validation: validation, test: test}
"""


def run(outputs: Path, *overrides: str) -> Path:
    before = set(outputs.rglob("result.json"))
    assert train.main([*TINY, *overrides, f"paths.outputs={outputs}", f"paths.cache={outputs.parent / 'cache'}"]) == 0
    (new,) = set(outputs.rglob("result.json")) - before
    return new.parent


def read(folder: Path, name: str) -> Any:
    return json.loads((folder / "predictions" / "val" / name).read_text(encoding="utf-8"))


def test_squad_v1_leaves_the_official_files(tmp_path: Path) -> None:
    folder = run(tmp_path / "outputs", "task=squad/v1", "recipe.epochs=1", "task.max_len=48", "task.data.stride=16")
    metrics = result(folder)["metrics"]
    assert {"val/exact_match", "val/f1", "val/loss", "val/score"} <= metrics.keys()
    assert result(folder)["score"] == pytest.approx((metrics["val/exact_match"] + metrics["val/f1"]) / 2)
    answers, n_best = read(folder, "predictions.json"), read(folder, "nbest_predictions.json")
    assert len(answers) == 48
    assert all(answers[name] == n_best[name][0]["text"] != "" for name in answers)
    assert all(sum(one["probability"] for one in actual) == pytest.approx(1.0) for actual in n_best.values())
    lines = [json.loads(line) for line in (folder / "predictions" / "val.jsonl").read_text().splitlines()]
    assert [line["prediction"] for line in lines] == list(answers.values())


def test_squad_v2_tunes_its_threshold_on_dev_and_writes_it_down(tmp_path: Path) -> None:
    folder = run(tmp_path / "outputs", "task=squad/v2", "recipe.epochs=1")
    metrics = result(folder)["metrics"]
    assert metrics["val/null_threshold"] == metrics["val/best_f1_threshold"]
    assert metrics["val/f1"] == pytest.approx(metrics["val/best_f1"])
    assert {"val/HasAns/f1", "val/NoAns/f1", "val/best_exact_match_threshold"} <= metrics.keys()
    answers, odds = read(folder, "predictions.json"), read(folder, "null_odds.json")
    assert all((odds[name] > metrics["val/null_threshold"]) == (text == "") for name, text in answers.items())


def test_choices_of_any_number_by_yaml_alone(tmp_path: Path) -> None:
    more = tmp_path / "more" / "task"
    more.mkdir(parents=True)
    (more / "copa.yaml").write_text(COPA)
    for task, choices in (("swag", 4), ("copa", 2)):
        folder = run(
            tmp_path / "outputs", "--config-dir", str(more.parent), f"task={task}", "recipe.epochs=1", "recipe.lr=2e-5"
        )
        lines = [json.loads(line) for line in (folder / "predictions" / "val.jsonl").read_text().splitlines()]
        assert len(lines) == 48
        assert {len(line["probabilities"]) for line in lines} == {choices}
        hidden = [json.loads(line) for line in (folder / "predictions" / "test.jsonl").read_text().splitlines()]
        assert {line["label"] for line in hidden} == {None}
        assert result(folder)["metrics"].keys() == {"val/accuracy", "val/loss", "val/score"}


def test_pretraining_is_fine_tuned_filled_in_and_exported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outputs = tmp_path / "outputs"
    pretrained = run(outputs, *PRETRAINING)
    actual = result(pretrained)
    assert {"val/mlm_accuracy", "val/mlm_perplexity", "val/nsp_accuracy", "val/score"} <= actual["metrics"].keys()
    assert actual["training"]["steps"] == 6
    assert actual["training"]["mfu"] > 0
    lines = [json.loads(line) for line in (pretrained / "metrics.jsonl").read_text().splitlines()]
    assert any(
        {"train/mlm_loss", "train/nsp_accuracy", "train/tokens_per_s", "train/mfu"} <= line.keys() for line in lines
    )
    capsys.readouterr()
    assert cli.main(["predict", str(pretrained), "--text", "the [MASK] found the key ."]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "[MASK]"
    assert len(printed) == 6
    assert cli.main(["predict", str(pretrained), "--text", "no gap"]) == 2
    assert "there is no [MASK]" in capsys.readouterr().err
    for task in ("glue/rte", "squad/v1", "swag"):
        tuned = run(outputs, f"task={task}", f"init_from={pretrained}", "recipe.epochs=1", "recipe.lr=1e-4")
        assert result(tuned)["digests"]["weights"] != "scratch"
    (tmp_path / "texts.txt").write_text("other words in another order\n" * 20)
    vocabulary = str(tmp_path / "words.json")
    learnt = [
        "tokenizer",
        "train",
        "--kind",
        "wordpiece",
        "--size",
        "60",
        str(tmp_path / "texts.txt"),
        "--out",
        vocabulary,
    ]
    assert cli.main(learnt) == 0
    capsys.readouterr()
    other = [
        *TINY,
        "task=glue/rte",
        f"init_from={pretrained}",
        f"paths.outputs={outputs}",
        f"model.tokenizer={vocabulary}",
    ]
    assert train.main(other) == 2
    assert "another id, or none, in the vocabulary that" in capsys.readouterr().err
    same = f"model.tokenizer={pretrained / 'tokenizer'}"
    assert (
        result(run(outputs, "task=glue/cola", f"init_from={pretrained}", "recipe.epochs=1", same))["score"] is not None
    )
    assert cli.main(["export", str(pretrained), str(tmp_path / "hf")]) == 0
    again = run(outputs, *PRETRAINING, f"init_from={tmp_path / 'hf'}")
    assert result(again)["init_from"] == str(tmp_path / "hf")


def test_a_causal_run_stays_causal_and_takes_a_bilstm(tmp_path: Path) -> None:
    outputs = tmp_path / "outputs"
    overrides = [word.replace("mlm_nsp", "ltr") for word in PRETRAINING]
    pretrained = run(outputs, *overrides, "model.attention=causal", "model.template.pooled_token=last")
    assert "val/nsp_accuracy" not in result(pretrained)["metrics"]
    tuned = run(outputs, "task=glue/rte", f"init_from={pretrained}", "recipe.epochs=1", "model.top=bilstm")
    import yaml

    built = yaml.safe_load((tuned / "config.yaml").read_text())["model"]
    assert (built["attention"], built["template"]["pooled_token"], built["top"]) == ("causal", "last", "bilstm")


@pytest.mark.parametrize(
    "task",
    [
        PRETRAINING,
        pytest.param(["task=squad/v2", "source.rows=50", "recipe.epochs=1"], marks=pytest.mark.slow),
        pytest.param(["task=swag", "source.rows=50", "recipe.epochs=1"], marks=pytest.mark.slow),
    ],
    ids=lambda overrides: overrides[0],
)
def test_two_processes_do_as_one_does(task: list[str], tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    small = [word for word in SMALL if not word.startswith(("task=", "recipe.lr", "source.rows"))]
    overrides = [*small, *task, "model.dropout=0.0", "hardware.micro_batch=3", "trainer.log_every=1"]
    metrics = []
    for hardware in ("cpu", "ddp_cpu"):
        completed = workspace.run_here(*overrides, f"hardware={hardware}", outputs=hardware)
        assert completed.returncode == 0, completed.stderr
        (folder,) = workspace.runs(hardware)
        metrics.append(result(folder)["metrics"])
    assert metrics[0].keys() == metrics[1].keys()
    for name, value in metrics[0].items():
        assert metrics[1][name] == pytest.approx(value, rel=1e-4), name


@pytest.mark.slow
def test_pretraining_on_the_sample_pays(tmp_path: Path) -> None:
    """The same model, the same few rows: from scratch, and from a run on the sample's stories."""
    overrides = [
        *("model=bert_l2_h128", "model.norm=pre", "model.init_std=0.07", "model.n_heads=8", "model.dropout=0.0"),
        *("source=sample", "tracking=none", "recipe.eps=1e-8", "recipe.schedule=cosine"),
    ]
    workspace = Workspace(tmp_path)
    completed = workspace.run(
        *overrides, "task=pretrain/mlm_nsp", "task.max_len=64", "recipe.batch_size=64", "recipe.max_steps=1200",
        "recipe.lr=1e-3", "recipe.warmup=100", "init_from=scratch", outputs="pretrained", seconds=1200,
    )  # fmt: skip
    assert completed.returncode == 0, completed.stderr
    (pretrained,) = workspace.runs("pretrained")
    assert result(pretrained)["metrics"]["val/mlm_accuracy"] > 0.5
    hits: dict[str, list[bool]] = {}
    for start in ("scratch", str(pretrained)):
        name = "scratch" if start == "scratch" else "pretrained_tuned"
        completed = workspace.run(
            *overrides, "task=glue/sst2", "source.rows=300", "recipe.epochs=5", "recipe.lr=5e-4", "recipe.batch_size=32",
            f"init_from={start}", outputs=name, seconds=1200,
        )  # fmt: skip
        assert completed.returncode == 0, completed.stderr
        (folder,) = workspace.runs(name)
        lines = [json.loads(line) for line in (folder / "predictions" / "val.jsonl").read_text().splitlines()]
        hits[name] = [line["prediction"] == line["label"] for line in lines]
    draw = random.Random(0)
    pairs = [after - before for before, after in zip(hits["scratch"], hits["pretrained_tuned"], strict=True)]
    gains = sorted(sum(draw.choices(pairs, k=len(pairs))) / len(pairs) for _ in range(2000))
    assert gains[50] > 0, f"the gain lies between {gains[50]:.3f} and {gains[-50]:.3f}"
