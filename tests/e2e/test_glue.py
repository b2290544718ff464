"""Every GLUE task from rows to the server's zip, on the sample; the diagnostics from the MNLI run; the demo's promise."""

import json
import zipfile
from pathlib import Path

import pytest

from protoformer import cli
from protoformer.commands import train

from .commands import Workspace, result

TINY = [
    "model=bert_l2_h128",
    "model.d_model=16",
    "model.d_ff=32",
    "source=sample",
    "source.rows=40",
    "recipe.epochs=1",
    "tracking=none",
    "hardware.threads=1",
]
SCORES = {
    "cola": {"val/matthews_correlation"},
    "sst2": {"val/accuracy"},
    "mrpc": {"val/accuracy", "val/f1"},
    "stsb": {"val/pearson", "val/spearman"},
    "qqp": {"val/accuracy", "val/f1"},
    "mnli": {"val/matched/accuracy", "val/mismatched/accuracy"},
    "qnli": {"val/accuracy"},
    "rte": {"val/accuracy"},
    "wnli": {"val/accuracy"},
}
FILES = {
    "CoLA.tsv", "SST-2.tsv", "MRPC.tsv", "STS-B.tsv", "QQP.tsv", "MNLI-m.tsv", "MNLI-mm.tsv", "QNLI.tsv", "RTE.tsv", "WNLI.tsv",
    "AX.tsv",
}  # fmt: skip


def run(outputs: Path, *overrides: str) -> Path:
    before = set(outputs.rglob("result.json"))
    assert train.main([*TINY, *overrides, f"paths.outputs={outputs}", f"paths.cache={outputs.parent / 'cache'}"]) == 0
    (new,) = set(outputs.rglob("result.json")) - before
    return new.parent


def test_all_tasks_and_the_zip(tmp_path: Path) -> None:
    outputs = tmp_path / "outputs"
    runs = {}
    for task, keys in SCORES.items():
        runs[task] = run(outputs, f"task=glue/{task}", "init_from=scratch")
        actual = result(runs[task])
        assert {key for key in actual["metrics"] if key.startswith("val/") and "loss" not in key} == keys | {
            "val/score"
        }
        main = [actual["metrics"][key] for key in keys]
        assert actual["score"] == pytest.approx(sum(main) / len(main), abs=1e-6)
        # hidden references give no numbers; MRPC's are public
        assert any(key.startswith("test/") for key in actual["metrics"]) == (task == "mrpc")
    runs["ax"] = run(outputs, "task=glue/ax", f"init_from={runs['mnli']}")
    assert result(runs["ax"])["score"] is None
    lines = [json.loads(line) for line in (runs["ax"] / "predictions" / "test.jsonl").read_text().splitlines()]
    assert len(lines) == 40
    assert {line["label"] for line in lines} == {None}

    zipped = tmp_path / "glue.zip"
    whole = [str(folder) for folder in runs.values()]
    assert cli.main(["submission", "glue", *whole, "--out", str(zipped), "--partial"]) == 0
    with zipfile.ZipFile(zipped) as archive:
        assert set(archive.namelist()) == FILES
        assert archive.read("AX.tsv").decode().splitlines()[0] == "index\tprediction"


def test_a_run_starts_from_another_run_with_a_fresh_head(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outputs = tmp_path / "outputs"
    first = run(outputs, "task=glue/mnli", "init_from=scratch")
    capsys.readouterr()
    second = run(outputs, "task=glue/rte", f"init_from={first}")
    assert "its head for" in capsys.readouterr().err
    assert result(second)["digests"]["weights"] != "scratch"


@pytest.mark.slow
def test_the_demo_learns(tmp_path: Path) -> None:
    completed = Workspace(tmp_path).run("experiment=demo")
    assert completed.returncode == 0, completed.stderr
    (folder,) = Workspace(tmp_path).runs()
    metrics = result(folder)["metrics"]
    assert metrics["val/matched/accuracy"] > 0.9
    assert metrics["val/mismatched/accuracy"] > 0.9
