"""The sweeps in `sweeps/`: BERT's GLUE grid for Hydra and for W&B, without training and without a server."""

import itertools
import math
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from protoformer.commands import train
from protoformer.commands.sweeps.checks import checked_sweep
from protoformer.config import groups
from protoformer.config.compose import compose
from protoformer.errors import ConfigurationError
from protoformer.reporting import paper_results
from protoformer.sweeps.space import covering_points, overrides_of
from protoformer.sweeps.specification import read_sweep

ROOT = Path(__file__).parents[2]
SWEEPS = ROOT / "sweeps"
GRID = set(itertools.product((5e-5, 3e-5, 2e-5), (16, 32), (2, 3, 4)))  # arXiv 1810.04805, appendix A.3


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The configs that a command would train, in place of training."""
    configs: list[dict[str, Any]] = []

    def train_run(config: dict[str, Any], command: str) -> dict[str, Any]:
        configs.append(config)
        return {"task_type": {}, "score": 0.5, "metrics": {"val/accuracy": 0.5}}

    stand_in = ModuleType("protoformer.training.run")
    stand_in.train_run = train_run  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "protoformer.training.run", stand_in)
    for name in (groups.CONF_VARIABLE, "HYDRA_FULL_ERROR"):
        monkeypatch.setenv(name, "")  # what the command sets is undone after the test
    monkeypatch.chdir(ROOT)
    return configs


def test_the_grid_times_three_seeds_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    checked: list[dict[str, str]] = []
    monkeypatch.setattr(
        "protoformer.config.compose.compose",
        lambda overrides: checked.append(dict(word.split("=", 1) for word in overrides)),
    )
    monkeypatch.setenv(groups.CONF_VARIABLE, str(SWEEPS))
    monkeypatch.chdir(ROOT)
    jobs = len(checked_sweep(["experiment=bert_glue_grid", "task=glue/rte"], groups.search_path()).jobs)
    keys = ("recipe.lr", "recipe.batch_size", "recipe.epochs", "seed")
    points = {tuple(float(job[key]) for key in keys) for job in checked}
    assert points == {(*point, seed) for point in GRID for seed in (1, 2, 3)}
    assert jobs == len(checked) == 54
    assert {job["task"] for job in checked} == {"glue/rte"}


def test_its_jobs_reach_training_and_keys_of_the_command_line_narrow_it(
    trained: list[dict[str, Any]], tmp_path: Path
) -> None:
    overrides = [
        "-m",
        "--config-dir",
        "sweeps",
        "experiment=bert_glue_grid",
        "task=glue/rte",
        f"paths.outputs={tmp_path}",
    ]
    assert train.main([*overrides, "seed=7", "recipe.lr=1e-4", "recipe.batch_size=16", "model=bert_l2_h128"]) == 0
    assert [config["recipe"]["epochs"] for config in trained] == [2, 3, 4]
    for config in trained:
        assert (config["choices"]["model"], config["choices"]["task"], config["seed"]) == (
            "bert_l2_h128",
            "glue/rte",
            7,
        )
        assert (config["recipe"]["lr"], config["recipe"]["batch_size"]) == (1e-4, 16)
        assert config["trainer"]["max_epochs"] == config["recipe"]["epochs"]


def test_the_commands_in_the_header_name_options_that_exist() -> None:
    lines = (SWEEPS / "experiment" / "bert_glue_grid.yaml").read_text().splitlines()
    commands = [line.lstrip("# ").split(" # ")[0].split() for line in lines if "python train.py" in line]
    assert len(commands) == 3
    for command in commands:
        assert command[:5] == ["python", "train.py", "-m", "--config-dir", "sweeps"]
        first = [word.split(",")[0] for word in command[5:]]
        config = compose(first, str(SWEEPS))
        assert config["choices"]["experiment"] == "bert_glue_grid"


TRIALS = {
    "bert_glue_grid": 54,
    "transformer_table3": 20,
    "bert_masking": 6,
    "bert_sizes": 6,
    "bert_table5": 3,
    "gpt_ablation": 24,
    "data_size": 18,
    "search": 30,
}


def test_each_sweep_begins_with_its_launch_command() -> None:
    files = sorted(SWEEPS.glob("*.yaml"))
    assert {file.stem for file in files if ".wandb" not in file.name} == set(TRIALS)
    for file in files:
        first = file.read_text().splitlines()[0]
        program = "wandb sweep --project protoformer" if ".wandb" in file.name else "protoformer sweep"
        assert first.startswith(f"# {program} sweeps/{file.name}"), file


@pytest.mark.parametrize("name", TRIALS)
def test_the_launch_command_of_a_sweep_has_its_trials(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(groups.CONF_VARIABLE, str(SWEEPS))
    monkeypatch.chdir(ROOT)
    words = (SWEEPS / f"{name}.yaml").read_text().splitlines()[0].split()[3:]
    sweep = read_sweep(Path(words[0]), words[1:], groups.search_path())
    assert sweep.trials == len(sweep.points) == TRIALS[name]
    assert sweep.objective == "val/score"
    first = next(covering_points(sweep.space))  # `protoformer sweep` composes a point for each value before it starts
    assert compose(sweep.words(overrides_of(first)))["choices"]["model"]


@pytest.mark.parametrize("name", ["bert_glue_grid", "search"])
def test_a_wandb_sweep_takes_keys_that_exist_and_groups_its_runs(name: str) -> None:
    loaded = wandb_sweep(name)
    assert loaded["parameters"]["tracking.sweep"] == {"value": name}
    points = [{key: _ends(node)[i] for key, node in loaded["parameters"].items()} for i in (0, -1)]
    for point in points:
        config: Any = compose([f"{key}={value}" for key, value in point.items()])
        assert config["recipe"]["lr"] == point["recipe.lr"]
        assert config["tracking"]["sweep"] == name


def _ends(node: dict[str, Any]) -> list[Any]:
    return [node["min"], node["max"]] if "min" in node else values(node)


def test_the_wandb_search_is_bayesian_with_hyperband() -> None:
    sweep = wandb_sweep("search")
    assert (sweep["method"], sweep["early_terminate"]["type"]) == ("bayes", "hyperband")
    assert sweep["command"] == ["${env}", "${interpreter}", "${program}", "${args_no_hyphens}"]
    assert sweep["metric"] == {"name": "val/score", "goal": "maximize"}


def wandb_sweep(name: str = "bert_glue_grid") -> dict[str, Any]:
    loaded = yaml.safe_load((SWEEPS / f"{name}.wandb.yaml").read_text())
    assert isinstance(loaded, dict)
    return loaded


def values(parameter: dict[str, Any]) -> list[Any]:
    return parameter["values"] if "values" in parameter else [parameter["value"]]


def test_the_wandb_sweep_runs_train_py_without_hyphens_and_maximizes_the_dev_score() -> None:
    sweep = wandb_sweep()
    assert (ROOT / sweep["program"]).is_file()
    assert sweep["command"] == ["${env}", "${interpreter}", "${program}", "${args_no_hyphens}"]
    assert sweep["metric"] == {"name": "val/score", "goal": "maximize"}
    assert sweep["method"] == "grid"


def test_the_wandb_sweep_draws_the_same_grid() -> None:
    parameters = wandb_sweep()["parameters"]
    keys = ("recipe.lr", "recipe.batch_size", "recipe.epochs")
    assert set(itertools.product(*(values(parameters[key]) for key in keys))) == GRID
    assert math.prod(len(values(parameter)) for parameter in parameters.values()) == 54


def test_every_parameter_of_the_wandb_sweep_exists_and_is_taken() -> None:
    parameters = wandb_sweep()["parameters"]
    groups = ("model", "task")
    config = compose([f"{group}={values(parameters[group])[0]}" for group in groups])
    for key, parameter in parameters.items():
        if key in groups:
            continue
        node: Any = config
        for part in key.split("."):
            assert part in node, key
            node = node[part]
        for value in values(parameter):
            taken: Any = compose([*(f"{group}={values(parameters[group])[0]}" for group in groups), f"{key}={value}"])
            for part in key.split("."):
                taken = taken[part]
            assert taken == value, key


ABLATIONS = {"bert_masking": 6, "bert_sizes": 6}


@pytest.mark.parametrize("name", ABLATIONS)
def test_an_ablation_draws_its_rows(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables 6 and 8 of arXiv 1810.04805: six sizes, six ways to mask."""
    monkeypatch.setenv(groups.CONF_VARIABLE, str(SWEEPS))
    monkeypatch.chdir(ROOT)
    drawn: list[dict[str, Any]] = []

    def composed(overrides: list[str]) -> dict[str, Any]:
        drawn.append(compose(overrides))
        return drawn[-1]

    monkeypatch.setattr("protoformer.config.compose.compose", composed)
    jobs = len(checked_sweep([f"experiment={name}"], groups.search_path()).jobs)
    assert jobs == len(drawn) == ABLATIONS[name]
    assert {config["choices"]["task"] for config in drawn} == {"pretrain/mlm_nsp"}
    if name == "bert_masking":
        shares = [config["task"]["data"]["masking"] for config in drawn]
        assert [(one["mask"], one["random"]) for one in shares] == [
            (0.8, 0.1), (1.0, 0.0), (0.8, 0.2), (0.8, 0.0), (0.0, 0.8), (0.0, 1.0),
        ]  # fmt: skip
    else:
        sizes = [tuple(config["model"][key] for key in ("n_layers", "d_model", "n_heads")) for config in drawn]
        assert sizes == [(3, 768, 12), (6, 768, 3), (6, 768, 12), (12, 768, 12), (12, 1024, 16), (24, 1024, 16)]


def test_table_5_compares_on_equal_terms() -> None:
    base, no_nsp, ltr = (compose([f"experiment=bert_table5/{name}"], str(SWEEPS)) for name in ("base", "no_nsp", "ltr"))
    for other in (no_nsp, ltr):
        assert other["recipe"] == base["recipe"]
        assert [(phase["share"], phase["max_len"]) for phase in other["task"]["data"]["phases"]] == [
            (0.9, 128),
            (0.1, 512),
        ]
    assert (base["task"]["data"]["nsp"], no_nsp["task"]["data"]["nsp"], ltr["task"]["data"]["nsp"]) == (
        True,
        False,
        False,
    )
    assert base["task"]["data"]["masking"] == no_nsp["task"]["data"]["masking"]
    assert ltr["task"]["data"]["masking"]["_target_"].endswith("NextTokens")
    assert (ltr["model"]["attention"], ltr["model"]["template"]["pooled_token"]) == ("causal", "last")
    assert {key for key in ltr["model"] if ltr["model"][key] != base["model"].get(key)} == {"attention", "template"}


GPT_ROWS = ("full", "no_aux_lm", "no_pretraining")
GPT_TASKS = [f"glue/{name}" for name in ("cola", "sst2", "mrpc", "stsb", "qqp", "mnli", "qnli", "rte")]


def test_gpts_ablation_draws_every_row_of_every_task_on_equal_terms(monkeypatch: pytest.MonkeyPatch) -> None:
    """Table 5 of Radford et al. 2018, by the command in the header."""
    lines = (SWEEPS / "experiment" / "gpt_ablation" / "full.yaml").read_text().splitlines()
    command, *lstm = (line.lstrip("# ").split() for line in lines if "python train.py" in line)
    assert compose(lstm[0][2:])["model"]["architecture"] == "decoder"
    assert lstm[1][4].removeprefix("task=").split(",") == GPT_TASKS
    assert command[:5] == ["python", "train.py", "-m", "--config-dir", "sweeps"]
    monkeypatch.setenv(groups.CONF_VARIABLE, str(SWEEPS))
    monkeypatch.chdir(ROOT)
    drawn: dict[tuple[str, str], dict[str, Any]] = {}

    def composed(overrides: list[str]) -> dict[str, Any]:
        config = compose(overrides)
        drawn[config["choices"]["experiment"].rpartition("/")[2], config["choices"]["task"]] = config
        return config

    monkeypatch.setattr("protoformer.config.compose.compose", composed)
    jobs = len(checked_sweep(command[5:], groups.search_path()).jobs)
    assert jobs == len(drawn) == 24
    assert set(drawn) == set(itertools.product(GPT_ROWS, GPT_TASKS))
    for (row, task), config in drawn.items():
        full = drawn["full", task]
        assert config["model"] == full["model"]
        assert {**config["recipe"], "aux_lm_weight": 0.5} == full["recipe"]
        assert config["recipe"]["aux_lm_weight"] == (0 if row == "no_aux_lm" else 0.5)
        assert config["init_from"] == ("scratch" if row == "no_pretraining" else "auto")
    recipe = drawn["full", "glue/rte"]["recipe"]  # section 4.1
    expected = {"lr": 6.25e-5, "batch_size": 32, "epochs": 3, "warmup": 0.002, "schedule": "linear", "clip": 1.0}
    assert {key: recipe[key] for key in expected} == expected


def test_table_3_draws_the_papers_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """arXiv 1706.03762, table 3: each row that it prints is drawn once, and differs from the base in nothing else."""
    monkeypatch.setenv(groups.CONF_VARIABLE, str(SWEEPS))
    monkeypatch.chdir(ROOT)
    drawn: list[dict[str, Any]] = []
    monkeypatch.setattr("protoformer.config.compose.compose", lambda overrides: drawn.append(compose(overrides)))
    jobs = len(checked_sweep(["experiment=transformer_table3"], groups.search_path()).jobs)
    assert jobs == len(drawn) == 20
    task, (base, *variants) = "translate/wmt14_en_de", drawn
    assert paper_results.ablation_variants("transformer", task, base) == paper_results.caveats(base) == []
    plain = compose(["model=transformer", f"task={task}"])
    for key, value in plain["model"].items():
        assert base["model"][key] == value, key
    assert {**base["recipe"], "average": 5} == plain["recipe"]
    assert base["task"]["module"]["dev_beams"] == 4
    rows = [row for row in paper_results.rows() if row.table == "Table 3" and row.settings and not row.is_base]
    actual = [row for config in variants for row in paper_results.ablation_variants("transformer", task, config)]
    assert sorted(row.row for row in actual) == sorted(row.row for row in rows)
    for config in variants:
        (differs,) = {
            row.settings: row.overrides for row in paper_results.ablation_variants("transformer", task, config)
        }.values()
        changed = {f"model.{key}": v for key, v in config["model"].items() if v != base["model"][key]}
        changed |= {f"recipe.{key}": v for key, v in config["recipe"].items() if v != base["recipe"][key]}
        assert changed.pop("recipe.max_steps", 100000) == (300000 if len(differs) > 1 else 100000)
        assert changed == differs


def test_a_row_of_a_table_that_changes_nothing_is_refused() -> None:
    overrides = ["experiment=transformer_table3"]
    assert compose([*overrides, "variant={n_heads: 2}"], str(SWEEPS))["model"]["n_heads"] == 2
    assert compose([*overrides, "variant.d_model=64", "variant={n_heads: 2}"], str(SWEEPS))["model"]["d_model"] == 64
    with pytest.raises(ConfigurationError, match=r"variant\.n_haeds.*n_heads"):
        compose([*overrides, "variant={n_haeds: 2}"], str(SWEEPS))
    for variant in ("variant=5", "variant=null", "variant='{n_heads: 2}'", "variant=[1]"):
        with pytest.raises(
            ConfigurationError, match=r"a variant is a mapping, as in variant=\{key:1\}, without quotes"
        ):
            compose([*overrides, variant], str(SWEEPS))
    with pytest.raises(ConfigurationError, match=r"^variant\.n_heads: model\.n_heads=one does not fit"):
        compose([*overrides, "variant={n_heads: one}"], str(SWEEPS))
    with pytest.raises(ConfigurationError, match=r"^variant\.d_key: model\.d_key=0 is out of range"):
        compose([*overrides, "variant={d_key: 0}"], str(SWEEPS))
    with pytest.raises(ConfigurationError, match=r"model\.dropout: .* override variant\.dropout instead"):
        compose([*overrides, "model.dropout=0.3"], str(SWEEPS))
    with pytest.raises(ConfigurationError, match="no yaml reads any"):
        compose(["model=bert", "task=glue/rte", "variant.lr=1"])


SCALING = {  # jobs, and what differs between them
    "scaling_size": ("model.n_layers", [2, 3, 4, 5, 6]),
    "scaling_tokens": ("model.pretraining.tokens", [1.25e8, 2.5e8, 5e8, 1e9, 2e9]),
    "shots": ("task.shots", [0, 1, 2, 4, 8]),
    "sizes_in_context": ("model.n_layers", [12, 24, 36, 48]),
}


@pytest.mark.parametrize("name", SCALING)
def test_a_scaling_sweep_draws_its_points(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(groups.CONF_VARIABLE, str(SWEEPS))
    monkeypatch.chdir(ROOT)
    drawn: list[dict[str, Any]] = []
    monkeypatch.setattr("protoformer.config.compose.compose", lambda overrides: drawn.append(compose(overrides)))
    jobs = len(checked_sweep([f"experiment={name}"], groups.search_path()).jobs)
    key, values = SCALING[name]
    assert jobs == len(drawn) == len(values)
    actual: list[Any] = drawn
    for part in key.split("."):
        actual = [node[part] for node in actual]
    assert actual == values
    recipes = [config["recipe"] for config in drawn]
    if name == "scaling_size":
        tokens = [recipe["max_steps"] * recipe["batch_size"] * 1024 for recipe in recipes]
        assert tokens == pytest.approx([1e9] * 5, rel=1e-4)
        rates = [recipe["lr"] for recipe in recipes]
        assert rates == sorted(rates, reverse=True)
    else:
        assert all({**recipe, "max_steps": 0} == {**recipes[0], "max_steps": 0} for recipe in recipes)
    if name == "shots":
        assert {config["task"]["draws"] for config in drawn} == {5}


def test_the_sweep_over_data_size_draws_nested_parts_on_equal_terms(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = (SWEEPS / "experiment" / "data_size.yaml").read_text().splitlines()
    (command,) = [line.lstrip("# ").split() for line in lines if "python train.py" in line]
    assert command[:5] == ["python", "train.py", "-m", "--config-dir", "sweeps"]
    monkeypatch.setenv(groups.CONF_VARIABLE, str(SWEEPS))
    monkeypatch.chdir(ROOT)
    drawn: list[dict[str, Any]] = []
    monkeypatch.setattr("protoformer.config.compose.compose", lambda overrides: drawn.append(compose(overrides)))
    jobs = len(checked_sweep(command[5:], groups.search_path()).jobs)
    assert jobs == len(drawn) == 18
    parts = ["train[:3%]", "train[:6%]", "train[:12%]", "train[:25%]", "train[:50%]", "train"]
    points = [(config["task"]["splits"]["train"], config["seed"]) for config in drawn]
    assert sorted(points) == sorted(itertools.product(parts, (1, 2, 3)))
    assert all(config["recipe"] == drawn[0]["recipe"] for config in drawn)
    assert (drawn[0]["recipe"]["max_steps"], drawn[0]["trainer"]["max_epochs"]) == (470, None)
    assert {config["choices"]["task"] for config in drawn} == {"glue/rte"}
