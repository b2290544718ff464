"""Variables of W&B fill what nobody typed."""

from pathlib import Path

import pytest

from protoformer.runs.folder import RunFolder
from protoformer.training.trackers import tracking, wandb_environment

TAGS = ["bert", "glue/mrpc"]


def test_variables_fill_what_is_not_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*wandb_environment.KEYS, "WANDB_TAGS"):
        monkeypatch.delenv(name, raising=False)
    assert wandb_environment.settings((), TAGS) == {}
    monkeypatch.setenv("WANDB_PROJECT", "mine")
    monkeypatch.setenv("WANDB_ENTITY", "us")
    monkeypatch.setenv("WANDB_TAGS", "first, second,bert")
    monkeypatch.setenv("WANDB_RUN_GROUP", "grid")
    monkeypatch.setenv("WANDB_JOB_TYPE", "ablation")
    assert wandb_environment.settings((), TAGS) == {
        "project": "mine",
        "entity": "us",
        "group": "grid",
        "job_type": "ablation",
        "tags": ["bert", "glue/mrpc", "first", "second"],
    }
    typed = ("tracking.project", "tracking.tags", "tracking.entity", "tracking.job_type")
    assert wandb_environment.settings(typed, TAGS) == {"group": "grid"}


@pytest.mark.parametrize(
    ("value", "mode"), [("", ""), ("Offline", "offline"), ("dryrun", "offline"), ("run", "online")]
)
def test_modes_of_old_and_today(value: str, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", value)
    assert wandb_environment.mode() == mode


def test_a_disabled_tracker_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    with caplog.at_level("INFO"):
        assert tracking.build_tracker({"tracking": {"mode": "auto"}}, RunFolder(tmp_path, "run")) is None
    assert "WANDB_MODE=disabled: no tracker" in caplog.text
    assert "offline" not in caplog.text
