"""`protoformer prepare` without a network: the command that it prints is the one that runs from its caches."""

import shlex
from pathlib import Path

import pytest

from protoformer import cli
from protoformer.config.groups import CONF_VARIABLE


def test_the_command_that_it_prints_holds_the_folder_of_options(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "my conf" / "hardware").mkdir(parents=True)
    (tmp_path / "my conf" / "hardware" / "mine.yaml").write_text("accelerator: cpu\n")
    monkeypatch.setenv(CONF_VARIABLE, "")  # put back after the test
    overrides = ["model=bert_l2_h128", "task=glue/rte", "hardware=mine", "source=sample", "source.rows=20"]
    overrides += ["init_from=scratch", f"paths.cache={tmp_path}/cache"]
    assert cli.main(["prepare", "--config-dir", str(tmp_path / "my conf"), *overrides]) == 0
    command = capsys.readouterr().out.splitlines()[-1].partition("to run without a network:")[2]
    folder = ["--config-dir", str(tmp_path / "my conf")]
    assert shlex.split(command) == ["HF_HUB_OFFLINE=1", "python", "train.py", *folder, *overrides]
