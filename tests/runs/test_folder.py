"""The run folder: found again, never half written, and nothing that was never a run."""

import json
import math
import os
from pathlib import Path

import pytest

from protoformer.config.compose import compose
from protoformer.errors import RunFolderError
from protoformer.runs.folder import RunFolder

CONFIG = ["model=bert", "task=glue/rte"]

RESULT = {"run_id": "x", "model": "bert", "task": "glue/mrpc", "metrics": {}}


def config(tmp_path: Path) -> dict[str, object]:
    return compose([*CONFIG, f"paths.outputs={tmp_path}"])


def test_states_of_a_run(tmp_path: Path) -> None:
    folder = RunFolder.locate(config(tmp_path))
    assert folder.path.parent == tmp_path / "bert" / "glue" / "rte"
    assert folder.state == "new"
    folder.write_config(config(tmp_path))
    assert RunFolder.locate(config(tmp_path)).state == "unfinished"
    folder.result_file.write_text('{"finished": "2026')  # cut off
    assert folder.state == "unfinished"
    folder.write_result({**RESULT, "finished": "2026-01-01", "score": 0.5})
    assert folder.state == "finished"
    assert folder.read_result()["score"] == 0.5
    assert folder.read_config()["choices"]["model"] == "bert"


def test_a_copy_without_weights_is_told_from_a_run_that_has_none_yet(tmp_path: Path) -> None:
    folder = RunFolder.locate(config(tmp_path))
    folder.write_config(config(tmp_path))
    with pytest.raises(RunFolderError, match="has not been evaluated yet"):
        _ = folder.chosen_checkpoint
    folder.write_result({**RESULT, "finished": "2026-01-01"})
    with pytest.raises(
        RunFolderError, match=r"the run is finished, but its weights are not here: checkpoints/ was removed"
    ):
        _ = folder.chosen_checkpoint


def test_a_config_that_was_cut_short_is_told(tmp_path: Path) -> None:
    folder = RunFolder.locate(config(tmp_path))
    folder.write_config(config(tmp_path))
    assert folder.read_whole_config() == folder.read_config()
    text = folder.config_file.read_text()
    folder.config_file.write_text(text[: text.index("\ntask:")])
    with pytest.raises(RunFolderError, match=r"config\.yaml is not the whole config of a run: it lacks task"):
        folder.read_whole_config()


def test_force_makes_a_fresh_attempt_and_later_commands_find_the_latest(tmp_path: Path) -> None:
    first = RunFolder.locate(config(tmp_path), force=True)
    assert first.attempt == 1  # nothing is there to be kept
    first.write_config(config(tmp_path))
    second = RunFolder.locate(config(tmp_path), force=True)
    assert (second.attempt, second.path.name) == (2, f"{first.run_id}-a2")
    second.write_config({**config(tmp_path), "force": True})
    assert RunFolder.locate(config(tmp_path)) == second
    assert RunFolder.locate(config(tmp_path), force=True) == second  # begun by force: the same command continues it
    second.write_result({**RESULT, "finished": "now"})
    assert RunFolder.locate(config(tmp_path), force=True).attempt == 3
    assert RunFolder.open(second.path) == second
    assert first.path.exists()


def test_a_hash_that_looks_like_an_attempt(tmp_path: Path) -> None:
    for name, attempt in (("seed42-lr5e-05-bs32-a2447360", 1), ("seed42-lr5e-05-bs32-a2447360-a3", 3)):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "config.yaml").touch()
        opened = RunFolder.open(folder)
        assert (opened.run_id, opened.attempt) == ("seed42-lr5e-05-bs32-a2447360", attempt)


def test_what_is_no_run_folder(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="no such run folder"):
        RunFolder.open(tmp_path / "nowhere")
    with pytest.raises(RunFolderError, match=r"no config\.yaml"):
        RunFolder.open(tmp_path)


def test_a_placeholder_is_answered_with_the_runs_that_are_there(tmp_path: Path) -> None:
    """`outputs/bert/glue/mnli/RUN`, as documentation writes it, and the folder of a task's runs."""
    for age, name in enumerate(("seed3-a", "seed2-b", "seed1-c")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.yaml").touch()
        os.utime(tmp_path / name / "config.yaml", (1000 - age, 1000 - age))
    for path in (tmp_path / "RUN", tmp_path):
        with pytest.raises(RunFolderError) as error:
            RunFolder.open(path)
        assert str(error.value).endswith(f"; runs in {tmp_path}: seed3-a, seed2-b and 1 more")


def test_the_trackers_id_is_drawn_once_and_an_agents_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WANDB_RUN_ID", "WANDB_SWEEP_ID"):
        monkeypatch.delenv(name, raising=False)
    folder = RunFolder.locate(config(tmp_path))
    drawn = folder.tracker_id()
    assert drawn.startswith(f"{folder.run_id}-a1-")
    assert len(drawn.rpartition("-")[2]) == 4
    assert folder.tracker_id() == drawn
    other = RunFolder(tmp_path / "other", folder.run_id)
    assert other.tracker_id() != drawn
    monkeypatch.setenv("WANDB_RUN_ID", "agents")
    monkeypatch.setenv("WANDB_SWEEP_ID", "s")
    agent = RunFolder(tmp_path / "third", folder.run_id)
    assert agent.tracker_id() == "agents"
    monkeypatch.delenv("WANDB_RUN_ID")
    assert agent.tracker_id() == "agents"
    assert folder.tracker_id() == drawn


def test_what_is_no_number_is_null_on_disk_and_comes_back(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path, "x")
    folder.write_result({**RESULT, "metrics": {"val/pearson": math.nan}, "training": {"rate": None}})
    assert json.loads(folder.result_file.read_text())["metrics"] == {"val/pearson": None}
    assert "NaN" not in folder.result_file.read_text()
    assert math.isnan(folder.read_result()["metrics"]["val/pearson"])
    assert folder.read_result()["training"]["rate"] is None
