"""Overrides to a plain config: the grammar, what stays Hydra's, and where a wrong key is looked for."""

import json
import os
import shutil
from pathlib import Path

import pytest

from protoformer.config import compose as composing
from protoformer.config.compose import compose, conf_dir, rewritten, shown
from protoformer.config.groups import CONF_VARIABLE, groups, options, search_path
from protoformer.errors import ConfigurationError

ROOT = Path(__file__).parents[2]
PAIR = ["model=bert_l2_h128", "task=glue/rte"]


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    return Path(shutil.copytree(ROOT / "conf", tmp_path / "conf"))


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_the_result_is_plain_resolved_and_says_what_was_chosen() -> None:
    config = compose([*PAIR, "recipe.lr=1e-4", "hardware=ddp_cpu"])
    assert json.loads(json.dumps(config)) == config
    assert config["recipe"]["lr"] == 1e-4
    assert config["trainer"]["max_epochs"] == config["recipe"]["epochs"] == 3
    assert config["hardware"]["devices"] == 2
    assert config["choices"]["model"] == "bert_l2_h128"
    assert config["choices"]["task"] == "glue/rte"
    assert config["choices"]["family"] == "bert"
    assert config["choices"]["set"] == ["recipe.lr"]
    assert not {"hydra", "experiment", "debug", "family"} & set(config)


def test_keys_that_no_yaml_states_can_be_set() -> None:
    config = compose(
        [*PAIR, "hardware.precision=bf16", "model.dropout=0", "task.data.on_bad_row=skip", "tracking.tags=[a]"]
    )
    assert config["hardware"]["precision"] == "bf16"
    assert config["model"]["dropout"] == 0.0
    assert config["task"]["data"]["on_bad_row"] == "skip"
    assert config["tracking"]["tags"] == ["a"]


def test_it_works_again_and_again_in_one_process_and_inside_another_hydra() -> None:
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        assert compose(PAIR) == compose(PAIR)
        assert GlobalHydra.instance().is_initialized()


def test_only_keys_get_a_prefix() -> None:
    folders = search_path()
    words = [
        "model=bert",
        "task=glue/rte",
        "recipe.lr=1",
        "seed=3",
        "+recipe.clip=2",
        "~recipe.lr",
        "hydra.verbose=true",
    ]
    assert rewritten(words, folders) == [
        *("model=bert", "task=glue/rte", "++recipe.lr=1", "++seed=3"),
        *("++recipe.clip=2", "~recipe.lr", "hydra.verbose=true"),
    ]
    assert [shown(word) for word in rewritten(words, folders)] == [word.removeprefix("+") for word in words]
    assert rewritten(["seed=range(3)", "recipe.lr=1e-5,3e-5"], folders, sweep=True) == [
        "++seed=range(3)",
        "++recipe.lr=1e-5,3e-5",
    ]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["task=glue/rte"], "no model is chosen; add model=<one of: bert, "),
        (["model=bert"], "no task is chosen; add task=<one of: "),
        ([*PAIR, "seed=1,2"], "seed=1,2: several values are a sweep; add -m"),
        ([*PAIR, "recipe.lr=[1"], "recipe.lr=[1: cannot be read as key=value"),
        ([*PAIR, "recipe.lr="], "recipe.lr='' does not fit; expected a number"),
        (["model=", "task=glue/rte"], "model= is empty; choose from: bert, "),
        (["bert", "glue/rte"], "bert: not an override; write key=value"),
        (["task/glue=mnli"], "write task=glue/mnli"),
        ([*PAIR, "--recipe.lr=1"], "write recipe.lr=1 (in a W&B sweep: ${args_no_hyphens})"),
        ([*PAIR, "lr=1"], "there is no group or key 'lr'; did you mean recipe.lr?"),
        ([*PAIR, "recipe=fast"], "recipe=fast: no such recipe; choose from: "),
        ([*PAIR, "~trainer.max_epoch"], "no yaml states this key; did you mean trainer.max_epochs?"),
        ([*PAIR, "source=local"], "source.root is not set; add source.root=<text>"),
        ([*PAIR, "seed=${sede}"], "seed: Interpolation key 'sede' not found"),
    ],
)
def test_errors_are_one_readable_line(words: list[str], said: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        compose(words)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("file", "old", "new", "said"),
    [
        (
            "model/bert.yaml",
            "  lr: 5.0e-5",
            "  lrr: 5.0e-5",
            "conf/model/bert.yaml: recipe.lrr: recipe has no key 'lrr'",
        ),
        ("model/bert.yaml", "  n_heads: 12", "  n_head: 12", "conf/model/bert.yaml: model.n_head: model has no key"),
        ("model/bert.yaml", "  lr: 5.0e-5", "  lr: fast", "conf/model/bert.yaml: recipe.lr=fast does not fit"),
        ("task/_classification.yaml", "max_len:", "max_length:", "conf/task/_classification.yaml: task.max_length"),
        ("task/glue/rte.yaml", "text_a:", "texta:", "conf/task/glue/rte.yaml: task.rows.texta"),
        ("hardware/auto.yaml", "auto\n", "cup\n", "conf/hardware/auto.yaml: hardware.accelerator=cup is not one of"),
        (
            "train.yaml",
            "seed: 42",
            "sede: 42",
            "conf/train.yaml: sede: there is no group or key 'sede'; did you mean",
        ),
        ("model/bert_l2_h128.yaml", "[bert,", "[brt,", "did you mean bert?"),
        ("train.yaml", "hardware: auto", "hardware: atuo", "did you mean auto?"),
        ("task/glue/rte.yaml", "metrics: [accuracy]", "metrics: [accuracy", "rte.yaml, line"),
    ],
)
def test_a_mistake_inside_a_yaml_is_found_and_its_file_named(
    conf: Path, file: str, old: str, new: str, said: str
) -> None:
    replace(conf / file, old, new)
    with pytest.raises(ConfigurationError) as caught:
        compose(PAIR, str(conf))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["mine", "deep/mine"])
def test_an_experiment_whose_keys_stand_in_the_wrong_place_is_told_why(tmp_path: Path, name: str) -> None:
    file = tmp_path / "experiment" / f"{name}.yaml"
    file.parent.mkdir(parents=True)
    body = "defaults: [{override /model: bert_l2_h128}, {override /task: glue/rte}, _self_]\nseed: 7\n"
    for text in (f"# mine\n{body}", "seed: 7\n", f"{body}# @package _global_\n"):
        file.write_text(text)
        with pytest.raises(ConfigurationError) as caught:
            compose([*PAIR, f"experiment={name}"], str(tmp_path))
        assert f"{tmp_path.name}/experiment/{name}.yaml: what it states stands under `exp" in str(caught.value)
        assert "its first line must be `# @package _global_`" in str(caught.value)
    file.write_text(f"# @package _global_\n{body}")
    assert compose([f"experiment={name}"], str(tmp_path))["seed"] == 7
    with pytest.raises(ConfigurationError, match="there is no group or key 'experiment'"):
        compose([*PAIR, "experiment.seed=3"])


def test_an_experiment_that_train_yaml_chooses_is_judged_too(conf: Path) -> None:
    replace(conf / "train.yaml", "experiment: none", "experiment: mine")
    (conf / "experiment" / "mine.yaml").write_text("seed: 7\n")
    with pytest.raises(ConfigurationError, match=r"conf/experiment/mine\.yaml: what it states stands under"):
        compose(PAIR, str(conf))


def test_conf_beside_train_py_comes_before_the_checkouts_own(
    conf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(CONF_VARIABLE, raising=False)
    monkeypatch.chdir(tmp_path)
    assert conf_dir() == ROOT / "conf"  # a conf/ without a train.py beside it is somebody else's
    (tmp_path / "train.py").write_text("")
    assert conf_dir() == conf
    replace(conf / "train.yaml", "seed: 42", "seed: 7")
    assert compose(PAIR)["seed"] == 7
    assert composing.search_path(str(ROOT / "conf")) == (ROOT / "conf",)


def test_a_folder_without_train_yaml_adds_options(tmp_path: Path) -> None:
    (tmp_path / "task").mkdir()
    (tmp_path / "task" / "mine.yaml").write_text(
        "defaults: [_classification, _self_]\nrows: {dataset: mine, text_a: text, labels: ['no', 'yes']}\n"
        "splits: {validation: dev, test: null}\nmodule: {metrics: [accuracy]}\n"
    )
    config = compose(["model=bert", "task=mine"], str(tmp_path))
    assert config["choices"]["task"] == "mine"
    assert config["task"]["rows"]["dataset"] == "mine"
    assert config["task"]["rows"]["labels"] == ["no", "yes"]
    with pytest.raises(ConfigurationError, match="did you mean task=mine"):
        compose(["model=bert", "task=mien"], str(tmp_path))
    with pytest.raises(ConfigurationError, match="no such folder"):
        compose(PAIR, str(tmp_path / "nowhere"))


def test_options_leave_out_bases_and_count_like_people() -> None:
    folders = search_path()
    assert "glue/mnli" in options("task", folders)
    assert not [name for name in options("task", folders) if "_glue" in name or "_classification" in name]
    names = options("model", folders)
    assert names.index("bert_l2_h128") < names.index("bert_l10_h128")
    assert {"model", "task", "hardware", "source"} <= set(groups(folders))


def test_paths_come_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PROTOFORMER_OUTPUTS", str(tmp_path / "runs"))
    monkeypatch.setenv("PROTOFORMER_CACHE", str(tmp_path / "cache"))
    config = compose(PAIR)
    assert config["paths"] == {"outputs": str(tmp_path / "runs"), "cache": str(tmp_path / "cache")}
    assert os.listdir(tmp_path) == []


def test_a_short_run_is_tracked_only_where_that_is_typed() -> None:
    short = [*PAIR, "debug=fast"]
    assert compose(short)["tracking"]["mode"] == "none"
    for typed in (["tracking=tensorboard"], ["tracking=none", "tracking.mode=tensorboard"]):
        for words in ([*short, *typed], [*typed, *short]):
            assert compose(words)["tracking"]["mode"] == "tensorboard"


def test_labels_typed_in_another_order_are_said(caplog: pytest.LogCaptureFixture) -> None:
    """The integers of the data then mean other classes."""
    compose(["model=bert", "task=glue/ax", "task.rows.labels=[contradiction,entailment,neutral]"])
    (line,) = [record.getMessage() for record in caplog.records]
    assert "task=glue/ax are entailment, neutral, contradiction, in this order" in line
    assert "now read as contradiction, entailment, neutral" in line


@pytest.mark.parametrize("labels", ["[entailment,neutral,contradiction]", "[yes,maybe,no]"])
def test_the_same_or_other_labels_need_no_line(labels: str, caplog: pytest.LogCaptureFixture) -> None:
    compose(["model=bert", "task=glue/ax", f"task.rows.labels={labels}"])
    assert not caplog.records


def test_labels_that_are_typed_away_make_numbers_of_them(caplog: pytest.LogCaptureFixture) -> None:
    assert compose([*PAIR, "task.rows.labels=null"])["task"]["rows"]["labels"] is None
    assert not caplog.records
