"""Run folders read back."""

import json
import math
from pathlib import Path

import pytest

from protoformer.errors import RunFolderError, UserError
from protoformer.runs import reader


def test_a_run_is_read_back(write_run) -> None:
    record = reader.read(write_run("x", seed=7))
    assert (record.model, record.task, record.config["seed"]) == ("bert", "glue/mrpc", 7)
    assert record.config["recipe"]["lr"] == 5e-5
    assert record.result is not None
    assert record.result["run_id"] == "x"
    unfinished = reader.read(write_run("y", finished=False))
    assert unfinished.result is None
    assert (unfinished.model, unfinished.task) == ("bert", "glue/mrpc")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("result.json", '{"run_id": "x", "mod', r"result\.json cannot be read"),
        ("result.json", "[]", r"result\.json is not a run's result: no run_id, model, task, metrics"),
        ("result.json", '{"run_id": "x", "model": "m", "task": "t", "metrics": null}', "no metrics"),
        ("config.yaml", "a: [1, 2", r"config\.yaml cannot be read"),
        ("config.yaml", "- 1\n- 2\n", r"config\.yaml is not the config of a run"),
        ("config.yaml", "", r"config\.yaml is not the config of a run"),
        ("config.yaml", "choices: {model: bert}", r"config\.yaml is not the config of a run"),
    ],
)
def test_a_broken_file_is_named(write_run, name: str, text: str, message: str) -> None:
    folder = write_run("x")
    (folder / name).write_text(text)
    with pytest.raises(RunFolderError, match=message) as caught:
        reader.read(folder)
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_runs_are_found_at_any_depth_and_once(write_run, tmp_path: Path) -> None:
    folders = [write_run("b"), write_run("a", task="glue/rte"), write_run("c", finished=False)]
    actual = list(reader.find_runs([str(tmp_path), str(folders[0]), str(tmp_path / "outputs")]))
    assert actual == sorted(folder.resolve() for folder in folders)


def test_folders_without_runs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no runs in"):
        list(reader.find_runs([str(tmp_path)]))
    with pytest.raises(UserError, match="no folder"):
        list(reader.find_runs([str(tmp_path / "nowhere")]))


def test_a_metric_that_is_null_is_nan(write_run) -> None:
    folder = write_run("x", metrics={"val/pearson": None, "val/loss": 0.5})
    result = reader.read(folder).result
    assert result is not None
    assert math.isnan(result["metrics"]["val/pearson"])
    assert result["metrics"]["val/loss"] == 0.5


def test_results_of_earlier_versions_say_how_to_read_them(write_run) -> None:
    result = reader.read(write_run("x", kind="translation")).result
    assert result is not None
    assert result["task_type"]["free_text"] is True
    assert "bleu" in result["task_type"]["percent_metrics"]
    folder = write_run("y")
    ranking = {"main_metrics": ["mrr"], "percent_metrics": ["mrr"], "free_text": False, "incomplete_data": {}}
    (folder / "result.json").write_text(
        json.dumps({**json.loads((folder / "result.json").read_text()), "task_type": ranking})
    )
    newer = reader.read(folder).result
    assert newer is not None
    assert newer["task_type"] == ranking


def test_example_scores_come_in_order_of_id(write_run) -> None:
    folder = write_run("x")
    assert reader.read_example_scores(folder, "val") is None
    (folder / "example_scores").mkdir()
    file = folder / "example_scores" / "val.jsonl"
    file.write_text('{"id": 1, "accuracy": 0.0}\n{"id": 0, "accuracy": 1.0}\n')
    assert reader.read_example_scores(folder, "val") == [{"id": 0, "accuracy": 1.0}, {"id": 1, "accuracy": 0.0}]
    file.write_text("[]\n")
    with pytest.raises(RunFolderError, match=r"val\.jsonl, line 1: no scores"):
        reader.read_example_scores(folder, "val")


def test_predictions_come_in_order_of_id(tmp_path: Path) -> None:
    file = tmp_path / "val.jsonl"
    file.write_text("".join(json.dumps({"id": i, "prediction": f"p{i}"}) + "\n" for i in (2, 0, 1)))
    assert [row["prediction"] for row in reader.read_predictions(file)] == ["p0", "p1", "p2"]
    file.write_text('{"id": 0}\n')
    with pytest.raises(RunFolderError, match=r"val\.jsonl, line 1"):
        reader.read_predictions(file)
