"""Keys, values and pairs of a config, without Hydra."""

import copy
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from protoformer.config.annotations.signatures import members, signature
from protoformer.config.compose import compose
from protoformer.config.schema import DATA_CONTEXT, SUPPLIED, Recipe
from protoformer.config.validate import check, keys_of
from protoformer.errors import ConfigurationError

Edit = Callable[[dict[str, Any]], None]


@pytest.fixture(scope="module")
def composed() -> dict[str, Any]:
    return compose(["model=bert_l2_h128", "task=glue/mnli", "source=sample"])


@pytest.fixture
def config(composed: dict[str, Any]) -> dict[str, Any]:
    return copy.deepcopy(composed)


def put(path: str, value: Any) -> Edit:
    def edit(config: dict[str, Any]) -> None:
        *nodes, name = path.split(".")
        for node in nodes:
            config = config[node]
        config[name] = value

    return edit


def drop(path: str) -> Edit:
    def edit(config: dict[str, Any]) -> None:
        *nodes, name = path.split(".")
        for node in nodes:
            config = config[node]
        del config[name]

    return edit


def test_what_is_checked_is_plain_and_checking_it_again_changes_nothing(config: dict[str, Any]) -> None:
    assert check(config) == config


def test_nodes_without_a_target_are_filled_with_the_schemas_defaults(config: dict[str, Any]) -> None:
    config["recipe"] = {"lr": 1, "batch_size": 8, "epochs": 2}
    recipe = check(config)["recipe"]
    assert set(recipe) == set(keys_of(Recipe))
    assert repr(recipe["lr"]) == "1.0"
    assert recipe["betas"] == [0.9, 0.999]
    assert check(config)["hardware"]["precision"] == "fp32"


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (put("trainer.max_epoch", 3), "trainer has no key 'max_epoch'; did you mean trainer.max_epochs?"),
        (put("recipe.max_len", 3), "did you mean task.max_len?"),
        (put("optim", {}), "there is no group or key 'optim'"),
        (put("model.d_modle", 8), "did you mean model.d_model?"),
        (put("model.hf.rpo", "x"), "did you mean model.hf.repo?"),
        (put("task.rows.labell", "x"), "did you mean task.rows.label?"),
        (put("task.splits.tset", "x"), "did you mean task.splits.test?"),
        (put("task.data.on_bad_rows", "skip"), "did you mean task.data.on_bad_row?"),
        (put("source.sede", 1), "did you mean source.seed?"),
        (put("model.packing", "on"), "set by the program; use the key hardware.packing"),
        (put("task.data.max_len", 8), "set by the program; use the key task.max_len"),
        (put("model.template.tokenizer", "x"), "use the key model.tokenizer"),
        (put("model.norm", "pree"), "did you mean pre? Choose from: pre, post"),
        (put("recipe.schedule", "liner"), "did you mean linear? Choose from: linear, "),
        (put("model.n_layers", "two"), "model.n_layers=two does not fit; expected a whole number"),
        (put("task.data.on_bad_row", "skp"), "did you mean skip?"),
        (put("recipe.lr", 0.0), "recipe.lr=0.0 is out of range; expected a value above 0"),
        (put("recipe.batch_size", 0), "at least 1"),
        (put("model.dropout", 1.0), "at least 0 and below 1"),
        (put("seed", -1), "at least 0 and below 4294967296"),
        (put("recipe.optimizer", "lmab"), "did you mean lamb? Choose from: lamb, adamw"),
        (put("init_from", ""), "init_from is empty; expected auto, scratch, a hub id or a folder"),
        (put("paths.outputs", " "), "paths.outputs is empty; expected a folder"),
        (put("paths.cache", ""), "paths.cache is empty; expected a folder"),
        (put("model.tokenizer", ""), "model.tokenizer is empty; expected auto, a file, a folder or a hub id"),
        (put("hardware.devices", 0), "at least 1, or all"),
        (put("recipe.lr", "???"), "recipe.lr is not set; add recipe.lr=<a number>"),
        (drop("recipe.lr"), "recipe.lr is not set; add recipe.lr=<a number>"),
        (drop("model.d_model"), "model.d_model is not set; add model.d_model=<a whole number>"),
        (drop("task.rows.text_a"), "task.rows.text_a is not set; add task.rows.text_a=<text>"),
        (drop("task.max_len"), "task.max_len is not set"),
        (drop("model._target_"), "model has no _target_"),
        (put("task.data", {}), "task.data has no _target_"),
        (put("source", {}), "source has no _target_"),
        (put("source._target_", None), "source has no _target_"),
        (put("task.vocabulary", {"size": 200}), "task.vocabulary has no _target_"),
        (put("task.splits", "train"), "set its keys, as in task.splits.key=value: validation, test, train"),
        (put("task.max_len", 513), "task.max_len=513 is longer than model.max_seq_len=512"),
        (put("hardware", {"precision": "fp16", "accelerator": "cpu"}), "choose hardware.precision=bf16"),
        (put("source._target_", "protoformer.data.SampelSource"), "did you mean SampleSource?"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(config: dict[str, Any], edit: Edit, said: str) -> None:
    edit(config)
    with pytest.raises(ConfigurationError) as caught:
        check(config)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


def test_how_long_to_train_must_be_known_where_there_is_a_training_split(config: dict[str, Any]) -> None:
    for key in ("recipe.epochs", "trainer.max_epochs"):
        put(key, None)(config)
    with pytest.raises(
        ConfigurationError, match=r"add recipe\.epochs=<n>, recipe\.max_steps=<n> or recipe\.max_time=<duration>"
    ):
        check(config)
    config["recipe"]["max_steps"] = 10
    check(config)
    config["recipe"]["max_steps"] = -1
    config["task"]["splits"]["train"] = None
    check(config)


def test_a_folders_own_sizes_are_not_judged_by_the_yamls(config: dict[str, Any]) -> None:
    config["task"]["max_len"] = 1024
    config["init_from"] = "some/folder"
    assert check(config)["task"]["max_len"] == 1024


def test_a_kind_that_the_models_template_cannot_write_is_refused_with_the_models_that_can(
    config: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "kind_of_stub.py").write_text(
        "from typing import ClassVar\nclass SpanDataModule:\n    template_method: ClassVar[str] = 'spans'\n"
        "    def __init__(self) -> None: ...\nclass TextsDataModule(SpanDataModule):\n    template_method = 'encode_texts'\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    config["task"]["data"] = {"_target_": "kind_of_stub.TextsDataModule"}
    check(config)
    config["task"]["data"] = {"_target_": "kind_of_stub.SpanDataModule"}
    with pytest.raises(ConfigurationError, match=r"model=bert_l2_h128 does not support .*lacks spans\).*none yet"):
        check(config)


@pytest.mark.parametrize(
    ("task", "shared"),
    [
        ("glue/mnli", {"labels": ["entailment", "neutral", "contradiction"], "aux_lm_weight": 0.5}),
        ("glue/stsb", {"labels": None, "aux_lm_weight": 0.5}),
        ("squad/v1", {"unanswerable": False, "aux_lm_weight": 0.5}),
        ("squad/v2", {"unanswerable": True, "aux_lm_weight": 0.5}),
        ("swag", {"choices": ["ending0", "ending1", "ending2", "ending3"], "aux_lm_weight": 0.5}),
        ("story_cloze", {"choices": ["sentence_quiz1", "sentence_quiz2"], "aux_lm_weight": 0.5}),
    ],
)
def test_a_module_reads_by_interpolation_what_it_shares_with_rows_data_and_recipe(
    task: str, shared: dict[str, Any]
) -> None:
    module = compose(["model=bert", f"task={task}", "recipe.aux_lm_weight=0.5"])["task"]["module"]
    assert {name: value for name, value in module.items() if name not in ("_target_", "metrics")} == shared


def test_assembly_passes_only_arguments_that_are_declared_as_supplied(config: dict[str, Any]) -> None:
    from protoformer.assembly.instantiate import instantiate
    from protoformer.data.datamodules.context import DataContext

    with pytest.raises(RuntimeError, match=r"task\.rows: labels not declared in schema\.SUPPLIED"):
        instantiate(config, "task.rows", labels=["a", "b"])
    for path, arguments in SUPPLIED.items():
        node = config
        for name in path.split("."):
            node = node[name]
        in_context = DATA_CONTEXT.keys() if path == "task.data" else set()
        assert arguments.keys() - in_context <= signature(node["_target_"]).parameters.keys(), path
    assert DATA_CONTEXT.keys() == {field.name for field in fields(DataContext)}


def test_what_a_builder_refuses_is_one_line_that_names_the_node(config: dict[str, Any]) -> None:
    from protoformer.assembly.instantiate import instantiate_node
    from protoformer.assembly.model import builder_arguments

    config["model"]["n_heads"] = 3
    with pytest.raises(ConfigurationError, match=r"^model: d_model 128 does not divide into 3 heads; give d_head$"):
        instantiate_node(builder_arguments(check(config)["model"]), "model", packing="off")


def test_the_one_datamodule_names_a_method_that_the_one_template_has() -> None:
    assert members("protoformer.data.ClassificationDataModule")["template_method"] == "encode_texts"
    assert "encode_texts" in members("protoformer.text.BertTemplate")


@pytest.mark.parametrize(("key", "value"), [("shots", 3), ("draws", 2), ("shots_seed", 1), ("on_overflow", "error")])
def test_shots_are_of_in_context_tasks_alone(config: dict[str, Any], key: str, value: Any) -> None:
    config["task"][key] = value
    with pytest.raises(ConfigurationError, match=rf"task\.{key}={value}: task=glue/mnli has no shots"):
        check(config)
