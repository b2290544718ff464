"""`protoformer report data-size`: curves of real runs over the number of training examples, groups, intervals, refusals."""

import csv
import json
import re
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from protoformer import cli
from protoformer.config.compose import compose
from protoformer.reporting.data_size.curves import read_curves, training_examples
from protoformer.training.run import train

TINY = [
    *("task=glue/mrpc", "source=sample", "source.rows=40", "init_from=scratch", "tracking=none", "hardware=cpu"),
    *("hardware.threads=1", "model.d_model=16", "model.d_ff=32", "model.n_layers=1", "model.n_heads=2"),
    *("recipe.batch_size=8", "recipe.max_steps=2", "recipe.epochs=null", "task.max_len=16", "task.splits.test=null"),
]
PARTS = {"train[:10]": 10, "train[:20]": 20, "train": 40}
TASK_TYPE = {
    "main_metrics": ["accuracy"], "percent_metrics": ["accuracy"], "headline": None, "free_text": False, "incomplete_data": {},
}  # fmt: skip


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep over parts of the training split with two seeds, and a second model with one seed."""
    folder = tmp_path_factory.mktemp("data_size")
    points = [("bert", part, seed) for part in PARTS for seed in (1, 2)]
    points += [("transformer_encoder", part, 1) for part in ("train[:10]", "train")]
    for model, part, seed in points:
        train(
            compose(
                [
                    f"model={model}", *TINY, f"task.splits.train='{part}'", f"seed={seed}",
                    f"paths.outputs={folder}/outputs", f"paths.cache={folder}/cache",
                ]
            ),
            "",
        )  # fmt: skip
    return folder / "outputs"


def test_a_table_a_file_and_a_figure_of_finished_runs(outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["report", "data-size", str(outputs)]) == 0
    out = capsys.readouterr().out
    assert "glue/mrpc: dev score over training examples" in out
    rows = list(csv.DictReader((outputs / "data_size.csv").open()))
    assert [(row["model"], int(row["examples"]), int(row["runs"])) for row in rows] == [
        *(("bert", examples, 2) for examples in PARTS.values()),
        *(("transformer_encoder", examples, 1) for examples in (10, 40)),
    ]
    for row in rows:
        scores = [float(score) for score in row["scores"].split()]
        assert float(row["mean"]) == pytest.approx(statistics.fmean(scores), abs=1e-5)
        assert bool(row["deviation"]) == (len(scores) > 1)
    recorded = {
        (result["model"], training_examples(result), result["seed"]): result["score"]
        for result in (json.loads(file.read_text()) for file in outputs.rglob("result.json"))
    }
    written = {
        (row["model"], int(row["examples"]), int(seed)): float(score)
        for row in rows
        for seed, score in zip(row["seeds"].split(), row["scores"].split(), strict=True)
    }
    assert written == pytest.approx(recorded, abs=1e-5)
    for text in ("training examples", "bert", "transformer_encoder", "10", "40"):
        assert f"<!-- {text} -->" in (outputs / "data_size.svg").read_text()


def test_another_metric_and_other_files(outputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table, figure = tmp_path / "f1.csv", tmp_path / "f1.png"
    words = ["--metric", "f1", "--csv", str(table), "--figure", str(figure)]
    assert cli.main(["report", "data-size", str(outputs), *words]) == 0
    assert f"written: {table}, {figure}" in capsys.readouterr().out
    assert {row["metric"] for row in csv.DictReader(table.open())} == {"f1"}
    assert figure.read_bytes()[:4] == b"\x89PNG"
    drawn = tmp_path / "again.svg"
    for _ in range(2):
        assert cli.main(["report", "data-size", str(outputs), "--figure", str(drawn), "--csv", str(table)]) == 0
    assert cli.main(["report", "data-size", str(outputs), "--metric", "bleu"]) == 2
    assert "no bleu of a dev set; it has" in capsys.readouterr().err


WriteRuns = Callable[..., Path]


@pytest.fixture
def write_sizes(write_run: Callable[..., Path]) -> WriteRuns:
    """A run of so many training examples; `changes` go over its result."""

    def write(
        examples: int, accuracy: float, seed: int = 1, recipe: dict[str, Any] | None = None, **changes: Any
    ) -> Path:
        name = f"{examples}-{seed}-{len(str(recipe))}{len(str(changes))}"
        folder = write_run(
            name,
            task="glue/sst2",
            seed=seed,
            metrics={"val/accuracy": accuracy},
            recipe=recipe,
            finished=changes.pop("finished", True),
        )
        if (folder / "result.json").exists():
            result = json.loads((folder / "result.json").read_text())
            result["task_type"] = TASK_TYPE
            result["data"] = {"train": {"rows": examples + 3, "skipped": 3}}
            (folder / "result.json").write_text(json.dumps(result | changes))
        return folder

    return write


def test_intervals_are_students_over_seeds(write_sizes: WriteRuns, tmp_path: Path, capsys) -> None:
    for examples, scores in {100: (0.6, 0.7, 0.8), 1000: (0.9, 0.9)}.items():
        for seed, score in enumerate(scores):
            write_sizes(examples, score, seed)
    ((curve,), left_out) = read_curves([str(tmp_path)])
    assert (curve.label, curve.metric, curve.percent, left_out) == ("bert", "accuracy", True, [])
    few, many = curve.sizes
    assert (few.examples, many.examples) == (100, 1000)
    assert few.deviation == pytest.approx(0.1)
    assert few.interval == pytest.approx((0.7 - 0.248414, 0.7 + 0.248414), abs=1e-5)  # t of 2 degrees: 4.30265
    assert many.interval is None
    assert cli.main(["report", "data-size", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert re.search(r"bert +│ +100 │ +3 │ 70.00 ± 10.00 │ +45.16 to 94.84", out)
    assert re.search(r"bert +│ +1,000 │ +2 │ +90.00 ± 0.00 │ +- ", out)


def test_runs_that_differ_in_more_are_curves_of_their_own(write_sizes: WriteRuns, tmp_path: Path) -> None:
    for examples in (100, 1000):
        write_sizes(examples, 0.7)
        write_sizes(examples, 0.8, recipe={"lr": 1e-5})
    write_sizes(500, 0.9, recipe={"lr": 3e-5})
    write_sizes(50, 0.9, digests={"data": {"validation": "0ther"}})
    curves, left_out = read_curves([str(tmp_path)])
    assert [len(curve.sizes) for curve in curves] == [2, 2]
    assert [re.search(r"lr=(\S+)", curve.label).group(1) for curve in curves] == ["1e-05", "5e-05"]  # type: ignore[union-attr]
    assert len(left_out) == 2
    assert any("lr=3e-05" in line and "1 run, all with 500 training examples" in line for line in left_out)
    assert any("validation 0ther" in line and "1 run, all with 50 training examples" in line for line in left_out)


def test_a_run_on_the_rows_and_with_the_seed_of_another_is_no_further_sample(
    write_sizes: WriteRuns, tmp_path: Path
) -> None:
    rows = {"data": {"train": "0ne"}}
    write_sizes(100, 0.6, 1)
    for variant in (rows, rows | {"code": "x"}, {"data": {"train": "an0ther"}}):
        write_sizes(1000, 0.8, 1, digests=variant)
    ((curve,), left_out) = read_curves([str(tmp_path)])
    assert [(size.examples, len(size.runs)) for size in curve.sizes] == [(100, 1), (1000, 2)]
    (line,) = left_out
    assert ": seed and training rows of " in line


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ([{}, {}], "bert on glue/sst2: 2 runs, all with 100 training examples"),
        ([{"finished": False}], "not finished"),
        ([{"training": {"steps": 0}}], "nothing was trained"),
        ([{"data": {"train": {"truncated": 1}}}], "result.json has no number of training rows"),
        ([{"task_type": {**TASK_TYPE, "headline": "perplexity"}}], "a language model, see protoformer report scaling"),
        ([{"score": None}], "no score of a dev set; it has accuracy"),
    ],
)
def test_refusals_are_one_line(
    changes: list[dict[str, Any]],
    reason: str,
    write_sizes: WriteRuns,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for seed, each in enumerate(changes):
        write_sizes(100, 0.7, seed, **each)
    assert cli.main(["report", "data-size", str(tmp_path / "outputs")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "no finished runs that differ in the number of training examples" in error
    assert reason in error


def test_a_figure_of_another_format_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["report", "data-size", str(tmp_path), "--figure", "a.gif"]) == 2
    assert "--figure a.gif: the file must end in .svg or .png" in capsys.readouterr().err


def test_a_misspelt_report_is_named(tmp_path: Path, monkeypatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["report", "data-sise", "outputs"]) == 2
    assert capsys.readouterr().err == "error: no folder data-sise; did you mean protoformer report data-size?\n"
    assert cli.main(["report", "elsewhere"]) == 2
    assert capsys.readouterr().err == "error: no folder elsewhere\n"
