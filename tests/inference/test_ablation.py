"""`protoformer probe ablate`: what is printed and written agrees with evaluations of a model that is changed by hand."""

import csv
import math
import shutil
from pathlib import Path

import pytest
import torch
from scipy.stats import hypergeom

from protoformer.cli import main
from protoformer.commands import train
from protoformer.inference.ablation.overlap import HeadOverlap
from protoformer.inference.ablation.scored_task import DevScore
from protoformer.runs.folder import RunFolder

from .test_attention import write_run

WORDS = ["model=bert_l2_h128", "task=glue/mrpc", "source=sample", "source.rows=40", "tracking=none", "model.d_model=16",
         "model.d_ff=32", "model.n_heads=2", "hardware=cpu", "hardware.threads=1"]  # fmt: skip
FIRST_HEAD = slice(0, 8)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a tiny BERT whose weights are large, so that heads matter."""
    folder = tmp_path_factory.mktemp("run")
    places = [f"paths.outputs={folder / 'outputs'}", f"paths.cache={folder / 'cache'}"]
    steps = ["recipe.max_steps=1", "recipe.batch_size=8", "task.splits.test=null"]
    assert train.main([*WORDS, "init_from=scratch", *steps, *places]) == 0
    (result,) = (folder / "outputs").rglob("result.json")
    checkpoint = RunFolder.open(result.parent).best_checkpoint
    content = torch.load(checkpoint, weights_only=True)
    generator = torch.Generator().manual_seed(0)
    for name, tensor in content["state_dict"].items():
        if tensor.ndim == 2:
            tensor.normal_(std=0.7, generator=generator)
        content["state_dict"][name] = tensor
    torch.save(content, checkpoint)
    return result.parent


def ablate(run: Path, *words: str) -> int:
    return main(["probe", "ablate", str(run), f"paths.cache={run.parents[4] / 'cache'}", "--examples", "6", *words])


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_each_head_and_all_in_order(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    relations = tmp_path / "relations.csv"
    relations.write_text(
        "relation,direction,head,verdict\nany,to head,1-1,above\ndet,to head,1-2,above\nobj,to head,2-1,not shown\n"
    )
    assert ablate(run, "--each", "--values", "zero", "--out", str(tmp_path), "--syntactic", str(relations)) == 0
    printed = capsys.readouterr().out
    assert "with all 4 heads" in printed
    assert "1 of 4 heads are the best of a relation above its offset" in printed
    ablations, prunings = rows(tmp_path / "ablation.csv"), rows(tmp_path / "pruning.csv")
    assert [row["head"] for row in ablations] == ["1-1", "1-2", "2-1", "2-2"]
    assert [row["relations"] for row in ablations] == ["", "det to head", "", ""]
    whole = float(prunings[0]["score"])
    assert [int(row["removed"]) for row in prunings] == [0, 1, 2, 3, 4]
    for row in ablations:
        assert float(row["score"]) - whole == pytest.approx(float(row["change"]))
    least = min(ablations, key=lambda row: float(row["importance"]))
    assert prunings[1]["score"] == least["score"]  # the first that is left out is the least important one
    assert prunings[1]["changed"] == least["changed"]
    assert any(int(row["changed"]) for row in ablations)
    assert (tmp_path / "ablation.svg").read_text().startswith("<?xml")


def test_a_named_head_is_what_an_evaluation_of_a_changed_checkpoint_gives(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ablate(run, "--values", "zero", "--heads", "2-1", "hardware.threads=1") == 0
    printed = capsys.readouterr().out
    changed = tmp_path / "changed"
    shutil.copytree(run, changed)
    checkpoint = RunFolder.open(changed).best_checkpoint
    content = torch.load(checkpoint, weights_only=True)
    content["state_dict"]["backbone.stack.layers.1.attention.output.weight"][:, FIRST_HEAD] = 0
    torch.save(content, checkpoint)
    assert main(["evaluate", str(changed), f"paths.outputs={tmp_path}", f"paths.cache={run.parents[4] / 'cache'}"]) == 0
    evaluated = capsys.readouterr().out
    (accuracy,) = (line for line in printed.splitlines() if line.startswith("accuracy"))
    expected = next(line for line in evaluated.splitlines() if "val/accuracy" in line)
    assert accuracy.split()[2] == expected.split("│")[2].strip()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--heads", "seed=1"], "--heads names no head, such as 3-9"),
        (["--heads", "3-1"], "--heads 3-1: the model has no such head (LAYER-HEAD, from 1; it has 1-1 to 2-2)"),
        (["--each", "--examples", "0"], "--examples 0: at least one"),
        (["--each", "task.splits.validation=null"], "no dev data to score on: task.splits.validation=<split>"),
        (
            ["--each", "--out", "{folder}/new", "--syntactic", "missing.csv"],
            "--syntactic missing.csv: No such file or directory",
        ),
        (["--each", "--syntactic", "{no_csv}"], "--syntactic {no_csv}: no CSV file ('utf-8' codec"),
        (["--each", "--out", "{no_csv}"], "--out {no_csv}: File exists; choose another folder"),
        (["--heads", "1-1", "--out", "out"], "--out out: goes with --each"),
        (["--heads", "1-1", "--syntactic", "a.csv"], "--syntactic a.csv: goes with --each"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    run: Path, words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    no_csv = tmp_path / "no.csv"
    no_csv.write_bytes(b"relation,\xff\n")
    assert ablate(run, *(word.format(no_csv=no_csv, folder=tmp_path) for word in words)) == 2
    assert said.format(no_csv=no_csv) in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "new").exists()


def test_a_run_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["probe", "ablate", str(tmp_path / "none"), "--each"]) == 2
    assert capsys.readouterr().err == f"error: {tmp_path / 'none'}: no such folder\n"
    assert main(["probe", "ablate", "none", "--each"]) == 2
    assert capsys.readouterr().err.startswith("error: none: no run of that name is here; for weights give task=TASK")


def test_frozen_parts_have_gradients_and_fewer_examples_are_counted(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ablate(run, "--each", "--values", "zero", "--examples", "500", "recipe.freeze=backbone") == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "by the gradient over 40 training examples" in printed


@pytest.mark.parametrize(
    ("model", "task", "head", "metric"),
    [
        ("gpt2_tiny", "pretrain/clm", "2-1", "perplexity"),
        ("bert", "pretrain/mlm_nsp", "2-1", "mlm_perplexity"),
        ("transformer_tiny", "translate/multi30k_en_de", "cross:2-1", "perplexity"),
    ],
)
def test_language_models_and_translation(
    model: str, task: str, head: str, metric: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Their losses are no percentages, and a head that is named twice is left out once."""
    folder = write_run(tmp_path, f"model={model}", f"task={task}")
    words = ["source=sample", "source.rows=8", "hardware=cpu", f"paths.cache={tmp_path / 'cache'}", "--examples", "3"]
    assert main(["probe", "ablate", str(folder), *words, "--heads", head, head]) == 0
    printed = capsys.readouterr().out
    numbers = {line.split()[0]: line.split()[1:4] for line in printed.splitlines() if line[:1].isalpha()}
    loss, perplexity = (numbers[metric.replace("perplexity", name)] for name in ("loss", "perplexity"))
    for before_or_after in (0, 1):
        expected = math.exp(float(loss[before_or_after]))
        assert float(perplexity[before_or_after]) == pytest.approx(expected, rel=1e-3)
    assert f"without {head} " in printed
    assert ("of 8 changed" in printed) == (model == "transformer_tiny")  # the others keep no predictions


@pytest.mark.parametrize(
    ("before", "after", "changed"), [(["yes", "no"], ["yes", "yes"], 1), ([0.5, 2.0], [0.5, 2.1], None), ([], [], None)]
)
def test_numbers_are_not_counted_as_other_predictions(before: list, after: list, changed: int | None) -> None:
    first, second = (DevScore(0.5, {}, frozenset(), len(each), each) for each in (before, after))
    assert first.changed(second) == changed


def test_the_chance_of_an_overlap_is_that_of_scipy() -> None:
    for common in range(6):
        shared = HeadOverlap(heads=144, top=20, syntactic=20, common=common)
        assert shared.p == pytest.approx(hypergeom.sf(common - 1, 144, 20, 20))
        assert shared.expected == pytest.approx(400 / 144)
