"""The command line of train.py around a stand-in for training: runs, sweeps, exit codes, and what is left behind."""

import math
import os
import shlex
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from protoformer.commands import multirun, train
from protoformer.config.groups import CONF_VARIABLE
from protoformer.errors import DivergedError

DEMO = "experiment=demo"


class Trained(list[tuple[dict[str, Any], str]]):
    """The configs and commands that came to training; seed 2 diverges, seed 4 is a bug."""

    def __call__(self, config: dict[str, Any], command: str) -> dict[str, Any]:
        self.append((config, command))
        if config["seed"] == 2:
            raise DivergedError("the loss is nan at step 3")
        if config["seed"] == 4:
            raise RuntimeError("a bug")
        score = config["seed"] / 10
        return {"score": score, "metrics": {"val/accuracy": score}, "task_type": {}}


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Trained:
    calls = Trained()
    stand_in = ModuleType("protoformer.training.run")
    stand_in.train_run = calls  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "protoformer.training.run", stand_in)
    for name in (CONF_VARIABLE, "HYDRA_FULL_ERROR"):
        monkeypatch.setenv(name, "")  # put back after the test, whatever the command sets
    monkeypatch.chdir(tmp_path)
    return calls


def lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.strip()]


def test_a_run_gets_the_plain_config_and_the_command_to_run_it_again(trained: Trained, tmp_path: Path) -> None:
    assert train.main([DEMO, "recipe.lr=1e-4", "task.rows.labels=[a b,c,d]"]) == 0
    ((config, command),) = trained
    assert config["recipe"]["lr"] == 1e-4
    assert config["choices"]["set"] == ["recipe.lr", "task.rows.labels"]
    assert type(config["task"]["rows"]) is dict
    assert command == "python train.py experiment=demo recipe.lr=1e-4 'task.rows.labels=[a b,c,d]'"
    assert os.listdir(tmp_path) == []


def test_jobs_of_a_sweep_are_grouped_by_their_experiment_in_a_tracker(trained: Trained) -> None:
    assert train.main(["-m", DEMO, "seed=1,3"]) == 0
    assert train.main(["-m", DEMO, "seed=5,6", "tracking.sweep=mine"]) == 0
    assert train.main([DEMO, "seed=7"]) == 0
    assert [config["tracking"]["sweep"] for config, _ in trained] == ["demo", "demo", "mine", "mine", None]


def test_the_sweepers_get_the_score(trained: Trained) -> None:
    from hydra import compose, initialize_config_dir
    from hydra.core.hydra_config import HydraConfig

    from protoformer.config.groups import conf_dir

    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = compose("train", [DEMO, "seed=3"], return_hydra_config=True)
    before = HydraConfig.instance().cfg
    try:
        HydraConfig.instance().set_config(config)
        assert multirun.run_job(config) == 0.3
        HydraConfig.instance().set_config(config)
        config.seed = 2
        with pytest.raises(DivergedError):  # in a launcher's own process the error goes home as it is
            multirun.run_job(config)
    finally:
        HydraConfig.instance().cfg = before


def test_a_user_error_is_one_line_and_its_own_exit_code(trained: Trained, capsys: pytest.CaptureFixture[str]) -> None:
    assert train.main([DEMO, "seed=2"]) == 4
    assert capsys.readouterr().err == "error: the loss is nan at step 3\n"


def test_a_bug_keeps_its_traceback(trained: Trained) -> None:
    with pytest.raises(RuntimeError, match="a bug"):
        train.main([DEMO, "seed=4"])


def test_an_interrupted_run_ends_with_130(
    trained: Trained, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(config: dict[str, Any], command: str) -> float:
        raise KeyboardInterrupt

    monkeypatch.setattr(sys.modules["protoformer.training.run"], "train_run", interrupted)
    assert train.main([DEMO]) == 130
    assert lines(capsys.readouterr().err) == ["error: interrupted"]


def test_a_sweep_runs_every_combination_and_goes_on_past_failures(
    trained: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outputs = tmp_path / "runs"
    assert train.main(["-m", DEMO, f"paths.outputs={outputs}", "seed=range(1,4)", "recipe.lr=1e-4,2e-4"]) == 4
    points = [(config["seed"], config["recipe"]["lr"]) for config, _ in trained]
    assert points == [(1, 1e-4), (1, 2e-4), (2, 1e-4), (2, 2e-4), (3, 1e-4), (3, 2e-4)]
    assert trained[-1][1].endswith("seed=3 recipe.lr=0.0002")
    printed = capsys.readouterr()
    *table, best = lines(printed.out)[-7:]
    assert [row.split()[0] for row in table] == list("123456")
    assert "10.00" in table[0]
    assert best == f"best: job 5 (seed=3 recipe.lr=0.0001), 30.00; `protoformer report {outputs}` compares them"
    assert "DivergedError: the loss is nan at step 3" in table[2]
    assert lines(printed.err) == ["error: the loss is nan at step 3"] * 2
    assert os.listdir(tmp_path) == ["runs"]


def test_a_sweep_without_a_failure_has_no_column_for_errors(
    trained: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train.main(["-m", DEMO, f"paths.outputs={tmp_path}", "seed=1,3"]) == 0
    printed = capsys.readouterr().out
    assert "error" not in printed
    assert "dev score" in printed


def test_a_sweep_with_a_bug_prints_its_traceback_runs_on_and_fails(
    trained: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train.main(["-m", DEMO, f"paths.outputs={tmp_path}", "seed=4,2,1"]) == 1
    assert len(trained) == 3
    assert "RuntimeError: a bug" in capsys.readouterr().err


def test_every_job_of_a_sweep_is_checked_before_the_first_one_starts(
    trained: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train.main(["-m", DEMO, "recipe.schedule=linear,liner"]) == 2
    assert trained == []
    (line,) = lines(capsys.readouterr().err)
    assert "did you mean linear?" in line
    assert os.listdir(tmp_path) == []


def test_a_sweep_that_a_yaml_states_is_drawn_and_narrowed(trained: Trained, tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "grid.yaml").write_text(
        "# @package _global_\nhydra: {sweeper: {params: {recipe.lr: '1e-4,2e-4', seed: '1,3'}}}\n"
    )
    overrides = ["-m", "--config-dir", str(tmp_path), "model=bert", "task=glue/rte", "experiment=grid", "seed=5"]
    assert train.main([*overrides, f"paths.outputs={tmp_path / 'runs'}"]) == 0
    assert [(config["recipe"]["lr"], config["seed"]) for config, _ in trained] == [(1e-4, 5), (2e-4, 5)]
    assert f"--config-dir {tmp_path}" in trained[0][1]


def test_flags_are_read_anywhere_and_cfg_prints_without_running(
    trained: Trained, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train.main([DEMO, "--cfg", "job", "--resolve", "recipe.lr=1e-4"]) == 0
    assert "lr: 0.0001" in capsys.readouterr().out
    assert train.main([DEMO, "--cfg", "job", "recipe.lrr=1e-4"]) == 2
    assert trained == []


@pytest.mark.parametrize("script", ["../clone/train.py", "train.py", "/home/a b/train.py"])
def test_the_command_that_runs_a_run_again_names_the_script_that_ran(
    script: str, trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", [script])
    assert train.main([DEMO]) == 0
    assert shlex.split(trained[0][1]) == ["python", script, DEMO]


def test_help_names_every_flag_that_an_unknown_one_is_answered_with(capsys: pytest.CaptureFixture[str]) -> None:
    assert train.main(["--help"]) == 0
    text = capsys.readouterr().out
    assert train.main([DEMO, "--foo"]) == 2
    offered = capsys.readouterr().err.partition("Choose from: ")[2].strip().split(", ")
    assert "--package" in offered
    assert [flag for flag in offered if flag not in text] == []


def test_a_sweep_over_seeds_or_folds_prints_the_mean(
    trained: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train.main(["-m", DEMO, f"paths.outputs={tmp_path}", "seed=1,3,5"]) == 0
    *_, mean, best = lines(capsys.readouterr().out)
    assert mean == "mean of 3 jobs: 30.00 ± 20.00"
    assert best.startswith("best: job 3 (seed=5)")


def test_different_tasks_have_no_best_score(
    trained: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train.main(["-m", DEMO, f"paths.outputs={tmp_path}", "task=glue/mrpc,glue/rte"]) == 0
    assert "best: " not in capsys.readouterr().out


def test_help_is_ours(capsys: pytest.CaptureFixture[str]) -> None:
    assert train.main(["--help"]) == 0
    text = capsys.readouterr().out
    for message in (
        "model=NAME task=NAME",
        "glue/mnli",
        "bert_l12_h768",
        "ddp_cpu",
        "recipe.lr",
        "init_from",
        "examples:",
    ):
        assert message in text
    assert max(map(len, text.splitlines())) <= 120


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ([], "no model and no task; give both, as in python train.py model=bert task=glue/mnli"),
        (["--multirn", DEMO], "--multirn: no such flag; did you mean --multirun?"),
        (["--recipe.lr=1", DEMO], "--recipe.lr: overrides have no hyphens"),
        (["--reuse=true", DEMO], "--reuse: overrides have no hyphens"),
        (["--lr=1", DEMO], "--lr: overrides have no hyphens"),
        (["--confg-dir=x", DEMO], "--confg-dir: no such flag; did you mean --config-dir?"),
        (["--confg-dir", "x", DEMO], "--confg-dir: no such flag; did you mean --config-dir?"),
        (["--cfg", "jbo", DEMO], "invalid choice: 'jbo'"),
        (["-m", "--cfg", "job", DEMO, "seed=1,2"], "--cfg=job shows one config; leave out -m"),
        (["--config-dir", "no/such/folder", DEMO], "no/such/folder: no such folder"),
    ],
)
def test_wrong_flags_are_one_line(
    trained: Trained, overrides: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train.main(overrides) == 2
    (line,) = lines(capsys.readouterr().err)
    assert message in line


def test_a_failed_jobs_objective_is_not_a_number(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[float | None] = []
    original = multirun.run_job

    def spy(config: Any, session: Any) -> float | None:
        seen.append(original(config, session))
        return seen[-1]

    monkeypatch.setattr(multirun, "run_job", spy)
    assert train.main([DEMO, "seed=2"]) == 4
    assert len(seen) == 1
    assert math.isnan(seen[0] or 0.0)


def test_a_launcher_that_is_not_installed_says_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert train.main(["-m", "model=bert_l2_h128", "task=glue/rte", "seed=1,2", "hydra/launcher=nothing"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "none of that name is installed" in error
    assert "docs/clusters.md" in error
