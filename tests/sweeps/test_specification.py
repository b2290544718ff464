"""A sweep's file and its command line: what they mean together, and each mistake in one line before the first trial."""

import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from protoformer import cli
from protoformer.config import groups
from protoformer.errors import ConfigurationError
from protoformer.sweeps import methods
from protoformer.sweeps.checks import checked
from protoformer.sweeps.specification import Sweep, read_sweep

FIXED = {"model": "bert_l2_h128", "task": "glue/rte", "init_from": "scratch"}
SPACE = {"recipe.lr": {"values": [1e-3, 3e-4]}, "seed": {"values": [1, 2]}}


def sweep_of(tmp_path: Path, node: object, words: str = "") -> Sweep:
    file = tmp_path / "s.yaml"
    file.write_text(node if isinstance(node, str) else yaml.safe_dump(node, sort_keys=False))
    return read_sweep(file, shlex.split(words), groups.search_path())


def test_words_of_the_command_line_come_before_the_file(tmp_path: Path) -> None:
    node = {"overrides": FIXED, "space": SPACE}
    assert sweep_of(tmp_path, node).trials == 4
    sweep = sweep_of(tmp_path, node, "seed=7 task=glue/mrpc,glue/cola hardware.threads=1 paths.outputs=o")
    assert sweep.overrides == {
        "model": "bert_l2_h128",
        "init_from": "scratch",
        "seed": "7",
        "hardware.threads": "1",
        "paths.outputs": "o",
    }
    assert {key: each.probes for key, each in sweep.space.items()} == {
        "recipe.lr": ("0.001", "0.0003"),
        "task": ("glue/mrpc", "glue/cola"),
    }
    assert sweep.name == "s-seed-7-task-glue-mrpc-glue-cola"
    assert "hardware.threads" not in str(sweep.identity)
    assert checked(sweep)[0]["recipe"]["lr"] == 1e-3


def test_options_of_sampler_and_pruner_are_optunas(tmp_path: Path) -> None:
    node = {
        "method": {"tpe": {"n_startup_trials": 3}},
        "trials": 5,
        "pruner": {"hyperband": {"reduction_factor": 4}},
        "overrides": FIXED,
    }
    sweep = sweep_of(tmp_path, {**node, "space": {"recipe.lr": {"log_uniform": ["1e-5", "1e-3"]}}})
    assert (sweep.method, sweep.trials, sweep.pruner_options) == ("tpe", 5, {"reduction_factor": 4})
    assert checked(sweep)[0]["recipe"]["lr"] == 1e-5


BAD: dict[str, tuple[dict[str, Any] | str, str, str]] = {  # what the file has besides, the words, the message
    "empty": ("", "", "not a sweep: no keys"),
    "yaml": ("space: [", "", "not valid yaml"),
    "key": ({"spaces": {}}, "", "spaces: no such key of a sweep; did you mean space?"),
    "no space": ({"space": None}, "", "space is empty"),
    "narrowed": ({}, "recipe.lr=1 seed=2", "space is empty"),
    "config key": ({"space": {"recipe.lrr": {"values": [1]}}}, "", "did you mean recipe.lr"),
    "fixed key": ({"overrides": {**FIXED, "recpie.lr": 1}}, "", "did you mean recipe"),
    "value": ({"space": {"recipe.lr": {"values": [1e-3, "high"]}}}, "", "recipe.lr=high"),
    "range end": ({"method": "random", "trials": 3, "space": {"model.dropout": {"uniform": [0, 2]}}}, "", "model.dropout=2"),
    "twice": ({"overrides": {**FIXED, "seed": 1}}, "", "seed stands under overrides and under space"),
    "method": ({"method": "tpee"}, "", "method=tpee: no such method; did you mean tpe?"),
    "method option": ({"method": {"tpe": {"n_startup": 3}}, "trials": 2}, "", "did you mean n_startup_trials?"),
    "package": ({"method": "cmaes", "trials": 2}, "", "method=cmaes needs the package no_cmaes: pip install no_cmaes"),
    "trials": ({"method": "tpe"}, "", "trials is not set; method=tpe needs a number"),
    "grid trials": ({"trials": 3}, "", "trials=3, but the grid has 4 points; leave trials out"),
    "continuous": ({"space": {"recipe.lr": {"uniform": [0, 1]}}}, "", "has no finite number of values for method: grid"),
    "pruner": ({"pruner": "medain"}, "", "pruner=medain: no such pruner; did you mean median?"),
    "never validates": (
        {"pruner": "median", "objective": "test/score"}, "task=lm/lambada model=gpt2", "pruner=median: task=lm/lambada never"
    ),
    "objective": ({"objective": "score"}, "", "objective=score is no metric of a dev or test split; did you mean val/score?"),
    "direction": ({"direction": "up"}, "", "direction=up; choose maximize or minimize"),
    "workers": ({"workers": 0}, "", "workers=0 is not a whole number of at least 1"),
    "wandb": ({"program": "train.py"}, "", "is a sweep of W&B; run it by `wandb sweep"),
    "experiment": ({"defaults": []}, "", "is an experiment; name it in a sweep's file"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_mistake_is_one_line_with_exit_code_2(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(methods.METHODS, "cmaes", ("CmaEsSampler", ("no_cmaes",)))
    node, words, message = BAD[name]
    file = tmp_path / "s.yaml"
    base: dict[str, Any] = {"overrides": FIXED, "space": SPACE}
    file.write_text(node if isinstance(node, str) else yaml.safe_dump({**base, **node}, sort_keys=False))
    outputs = f"paths.outputs={tmp_path}/outputs"
    assert cli.main(["sweep", str(file), *words.split(), outputs]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert str(file) in line
    assert message in line
    assert not (tmp_path / "outputs").exists()


def test_a_file_or_folder_that_is_not_there_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "search.yaml").touch()
    assert cli.main(["sweep", str(tmp_path / "serach.yaml")]) == 2
    assert "no such sweep; did you mean search.yaml?" in capsys.readouterr().err
    assert cli.main(["report", "sweep", str(tmp_path)]) == 2
    assert "is no sweep's folder: it has no sweep.yaml" in capsys.readouterr().err


def test_a_space_of_an_experiment_is_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    root = Path(__file__).parents[2]
    monkeypatch.setenv(groups.CONF_VARIABLE, str(root / "sweeps"))
    sweep = read_sweep(root / "sweeps" / "bert_glue_grid.yaml", ["task=glue/rte", "seed=1"], groups.search_path())
    assert {key: len(each.probes) for key, each in sweep.space.items()} == {
        "recipe.lr": 3,
        "recipe.batch_size": 2,
        "recipe.epochs": 3,
    }
    assert sweep.trials == 18
    with pytest.raises(ConfigurationError, match=r"task=glue/rtee: no such task; did you mean task=glue/rte"):
        checked(read_sweep(root / "sweeps" / "bert_glue_grid.yaml", ["task=glue/rtee"], groups.search_path()))
