"""The zip for the GLUE server."""

import math
import re
import zipfile
from pathlib import Path

import pytest

from protoformer.errors import RunFolderError, UserError
from protoformer.reporting import submission

CONF = Path(__file__).parents[2] / "conf"
SIZES = {sheet.name: sheet.rows for sheet in submission.SHEETS}


def labels_of(task: str) -> list[str]:
    from omegaconf import OmegaConf

    return list(OmegaConf.load(CONF / "task" / f"{task}.yaml").rows.get("labels") or [])


@pytest.fixture
def glue_run(write_run):
    """A run of a task with three test predictions, the labels in turn."""

    def write(task: str, answers: list | None = None, name: str = "x") -> Path:
        labels = labels_of(task)
        given = answers or (labels * 3)[:3] or [-0.25, 3.14159, 5.5]
        rows = [{"prediction": answer} for answer in given]
        stages = ["test_matched", "test_mismatched"] if task == "glue/mnli" else ["test"]
        folder_rows = {"labels": labels} if labels else {"text_a": "sentence1"}
        return write_run(name, task=task, rows=folder_rows, predictions=dict.fromkeys(stages, rows))

    return write


def contents(path: Path) -> dict[str, list[str]]:
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        return {name: archive.read(name).decode().split("\n") for name in archive.namelist()}


def test_all_tasks_make_the_eleven_files_of_the_server(glue_run, tmp_path: Path, capsys) -> None:
    tasks = list(dict.fromkeys(sheet.task for sheet in submission.SHEETS))
    assert len(tasks) == 10
    path = submission.main([str(glue_run(task)) for task in tasks], str(tmp_path / "out" / "glue.zip"), partial=True)
    files = contents(path)
    assert files.keys() == {
        *("CoLA.tsv", "SST-2.tsv", "MRPC.tsv", "STS-B.tsv", "QQP.tsv", "MNLI-m.tsv", "MNLI-mm.tsv"),
        *("QNLI.tsv", "RTE.tsv", "WNLI.tsv", "AX.tsv"),
    }
    assert all(lines[0] == "index\tprediction" and lines[-1] == "" for lines in files.values())
    for name in ("CoLA.tsv", "SST-2.tsv", "MRPC.tsv", "QQP.tsv", "WNLI.tsv"):
        assert files[name][1:-1] == ["0\t0", "1\t1", "2\t0"], name
    for name in ("MNLI-m.tsv", "MNLI-mm.tsv", "AX.tsv"):
        assert files[name][1:-1] == ["0\tentailment", "1\tneutral", "2\tcontradiction"], name
    for name in ("QNLI.tsv", "RTE.tsv"):
        assert files[name][1:-1] == ["0\tentailment", "1\tnot_entailment", "2\tentailment"], name
    assert files["STS-B.tsv"][1:-1] == ["0\t0.000", "1\t3.142", "2\t5.000"]
    printed = capsys.readouterr().out
    assert "warning: QQP.tsv has 3 rows, the official test set 390,965" in printed
    assert printed.count("warning:") == 11
    assert "11 of 11 files" in printed
    assert "reject" not in printed
    assert not list(path.parent.glob(".*"))


def test_index_labels_are_the_data_sets_own(glue_run, tmp_path: Path) -> None:
    run = glue_run("glue/wnli", ["entailment", "not_entailment"])
    files = contents(submission.main([str(run)], str(tmp_path / "glue.zip"), partial=True))
    assert files["WNLI.tsv"][1:3] == ["0\t1", "1\t0"]  # WNLI: 1 is entailment


def test_words_of_every_task_are_known_to_the_server() -> None:
    for sheet in submission.SHEETS:
        labels = labels_of(sheet.task)
        if sheet.form == "word":
            assert set(labels) == set(sheet.words)
            assert sheet.fill in sheet.words
        elif sheet.form == "index":
            assert len(labels) == 2
            assert sheet.fill in ("0", "1")
        else:
            assert labels == []
            assert 0 <= float(sheet.fill) <= 5


def test_missing_tasks_are_named(glue_run, tmp_path: Path, capsys) -> None:
    out = tmp_path / "glue.zip"
    with pytest.raises(UserError) as caught:
        submission.main([str(glue_run("glue/rte")), str(glue_run("glue/mnli"))], str(out))
    assert "no run for glue/cola, glue/sst2, glue/mrpc, glue/stsb, glue/qqp, glue/qnli, glue/wnli, glue/ax" in str(
        caught.value
    )
    assert "AX.tsv" in str(caught.value)
    assert not out.exists()


def test_partial_writes_what_there_is_and_says_so(glue_run, tmp_path: Path, capsys) -> None:
    path = submission.main([str(glue_run("glue/rte"))], str(tmp_path / "glue.zip"), partial=True)
    assert list(contents(path)) == ["RTE.tsv"]
    printed = capsys.readouterr().out
    assert "1 of 11 files (the server will reject it)" in printed
    assert re.search(r"MNLI-m.tsv\s+missing: no run of glue/mnli", printed)


def test_fill_answers_missing_tasks_in_every_official_row(glue_run, tmp_path: Path, capsys) -> None:
    run = glue_run("glue/rte", ["entailment", "not_entailment", "entailment"] * 1000)
    path = submission.main([str(run)], str(tmp_path / "glue.zip"), fill=True)
    files = contents(path)
    assert len(files) == 11
    assert {name: len(lines) - 2 for name, lines in files.items()} == SIZES
    assert files["WNLI.tsv"][1:-1] == [f"{place}\t0" for place in range(146)]
    assert re.search(r"QNLI.tsv\s+5,463 rows, all entailment: no run of glue/qnli", capsys.readouterr().out)


def test_another_number_of_rows_than_the_official_one_is_refused(glue_run, tmp_path: Path) -> None:
    out = tmp_path / "glue.zip"
    run = glue_run("glue/rte")
    with pytest.raises(UserError) as caught:
        submission.main([str(run)], str(out), fill=True)
    assert f"{run}: RTE.tsv has 3 rows, the official test set 3,000" in str(caught.value)
    assert "--partial" in str(caught.value)
    assert not out.exists()


def test_the_same_predictions_give_the_same_bytes(glue_run, tmp_path: Path) -> None:
    run = str(glue_run("glue/rte"))
    paths = [submission.main([run], str(tmp_path / f"{name}.zip"), partial=True) for name in "ab"]
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_two_runs_of_a_task_are_both_named(glue_run, tmp_path: Path) -> None:
    runs = [str(glue_run("glue/rte", name=name)) for name in ("one", "two")]
    with pytest.raises(UserError, match=r"two runs of glue/rte: .*one and .*two"):
        submission.main(runs, str(tmp_path / "glue.zip"))


def test_runs_that_cannot_be_submitted_are_refused(write_run, glue_run, tmp_path: Path) -> None:
    out = str(tmp_path / "glue.zip")
    with pytest.raises(UserError, match="no run given"):
        submission.main([], out)
    with pytest.raises(RunFolderError, match="not finished"):
        submission.main([str(write_run("u", task="glue/cola", finished=False))], out)
    with pytest.raises(RunFolderError, match=r"no predictions/test\.jsonl"):
        submission.main([str(write_run("v", task="glue/qnli"))], out, partial=True)
    with pytest.raises(UserError, match="which is not a GLUE task"):
        submission.main([str(write_run("w", task="squad/v1"))], out)
    with pytest.raises(RunFolderError, match="not a run folder"):
        submission.main([str(tmp_path)], out)


@pytest.mark.parametrize(
    ("task", "answers", "message"),
    [
        ("glue/rte", ["entailment", "maybe"], r"line 2: predicts 'maybe'; the run's labels are entailment"),
        ("glue/stsb", [1.0, math.nan], r"line 2: predicts nan, which is not a number"),
        ("glue/stsb", [1.0, "high"], r"line 2: predicts 'high', which is not a number"),
    ],
)
def test_predictions_that_the_server_would_refuse_are_named(glue_run, tmp_path, task, answers, message) -> None:
    with pytest.raises(RunFolderError, match=message):
        submission.main([str(glue_run(task, answers))], str(tmp_path / "glue.zip"), partial=True)


def test_rows_that_are_missing_or_doubled_are_named(glue_run, tmp_path: Path) -> None:
    run = glue_run("glue/rte")
    file = run / "predictions" / "test.jsonl"
    lines = file.read_text().splitlines()
    for kept in (lines[:1] + lines[2:], lines[:2] + lines[1:]):
        file.write_text("\n".join(kept) + "\n")
        with pytest.raises(RunFolderError, match="a test row has no prediction, or two"):
            submission.main([str(run)], str(tmp_path / "glue.zip"), partial=True)


def test_labels_that_the_server_does_not_know_are_refused(write_run, tmp_path: Path) -> None:
    run = write_run("x", task="glue/rte", rows={"labels": ["yes", "no"]}, predictions={"test": [{"prediction": "yes"}]})
    with pytest.raises(UserError, match=r"RTE\.tsv cannot hold no, yes"):
        submission.main([str(run)], str(tmp_path / "glue.zip"), partial=True)
