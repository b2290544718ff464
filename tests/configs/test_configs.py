"""Every yaml in conf/ is a test case: it composes, resolves, is checked, and binds to its targets' real signatures."""

import importlib
import inspect
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from protoformer.runtime.check import LATE
from protoformer.runtime.compose import compose
from protoformer.runtime.options import options
from protoformer.runtime.schema import Model
from protoformer.runtime.signatures import members

ROOT = Path(__file__).parents[2]
FOLDERS = (ROOT / "conf",)
MODELS, TASKS = options("model", FOLDERS), options("task", FOLDERS)
PAIR = ("model=bert_l2_h128", "task=glue/rte")
OTHERS = [
    (group, name)
    for group in ("hardware", "source", "tracking", "debug", "experiment", "family", "paths", "trainer")
    for name in options(group, FOLDERS)
]
GLUE = ("ax", "cola", "mnli", "mrpc", "qnli", "qqp", "rte", "sst2", "stsb", "wnli")
MINIATURES = {f"bert_l{layers}_h{width}" for layers in (2, 4, 6, 8, 10, 12) for width in (128, 256, 512, 768)}
NEEDED = {("source", "local"): ["source.root=folder"], ("source", "files"): ["source.files=*.txt"]}
ELEVEN = {
    *(f"glue/{name}" for name in GLUE if name not in ("ax", "wnli")),
    "squad/v1",
    "squad/v2",
    "swag",
}  # the paper's
GPTS = {"snli", "scitail", "race/all", "race/middle", "race/high", "story_cloze"}  # what GPT used besides GLUE
PRETRAINING = {"pretrain/mlm_nsp", "pretrain/ltr"}
FITTED = {  # batch and epochs where the paper names others than section 4.1's
    "squad/v2": (48, 2),
    "swag": (16, 3),
    **dict.fromkeys(PRETRAINING, (256, None)),
}


def binds(config: dict[str, Any]) -> None:
    for path, node in targets("", config):
        module, _, name = node["_target_"].rpartition(".")
        target = getattr(importlib.import_module(module), name)
        taken = inspect.signature(target).parameters
        given = set(node) - {"_target_"} - ({"tokenizer", "format", "published"} if path == "model" else set())
        assert given <= set(taken), f"{path}: {node['_target_']} takes no {given - set(taken)}"
        late = set(LATE.get(path, {}))
        named = {key: item for key, item in taken.items() if item.kind is not item.VAR_KEYWORD}
        needed = {key for key, item in named.items() if item.default is item.empty} - given - late
        assert not needed, f"{path}: {node['_target_']} needs {needed}"


def targets(path: str, node: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(node, dict):
        if "_target_" in node:
            yield path, node
        for name, inner in node.items():
            yield from targets(f"{path}.{name}" if path else name, inner)


def test_every_file_is_an_option_or_a_base_that_is_walked_here() -> None:
    files = [path.relative_to(FOLDERS[0]).as_posix() for path in FOLDERS[0].rglob("*.yaml")]
    bases = {file for file in files if Path(file).name.startswith("_")}
    walked = {f"model/{name}.yaml" for name in MODELS} | {f"task/{name}.yaml" for name in TASKS}
    walked |= {f"{group}/{name}.yaml" for group, name in OTHERS} | {
        f"recipe/{name}.yaml" for name in options("recipe", FOLDERS)
    }
    assert set(files) - bases - {"train.yaml"} == walked


def test_what_was_promised_is_there() -> None:
    assert set(MODELS) == MINIATURES | {"bert", "bert_large", "bert_base_cased", "bert_large_cased"}
    assert len(MINIATURES) == 24
    assert len(ELEVEN) == 11
    assert set(TASKS) == ELEVEN | GPTS | {"glue/ax", "glue/wnli"} | PRETRAINING
    assert set(options("hardware", FOLDERS)) == {"auto", "cpu", "ddp", "ddp_bf16", "ddp_cpu", "gpu", "gpu_bf16"}
    assert set(options("source", FOLDERS)) == {"files", "hub", "local", "sample"}
    assert set(options("tracking", FOLDERS)) == {"auto", "none", "tensorboard", "wandb", "wandb_offline"}
    assert len(OTHERS) == 24


@pytest.mark.parametrize("model", MODELS)
def test_every_model_composes_and_binds(model: str) -> None:
    config = compose([f"model={model}", "task=glue/mnli"])
    assert config["choices"]["family"] == "bert"
    assert set(config["model"]) >= {"tokenizer", "format", "published"}
    assert {"format", "tokenizer", "published"} == set(Model.__dataclass_fields__)
    binds(config)


@pytest.mark.parametrize("task", TASKS)
def test_every_task_composes_and_binds_and_its_format_writes_it(task: str) -> None:
    config = compose(["model=bert", f"task={task}"])
    binds(config)
    writes = members(config["task"]["data"]["_target_"])["writes"]
    assert writes in members(config["model"]["format"]["_target_"])
    fitted = FITTED.get(task, (32, 3))  # arXiv 1810.04805, section 4.1
    assert (config["recipe"]["batch_size"], config["recipe"]["epochs"]) == fitted


@pytest.mark.parametrize(("group", "name"), OTHERS)
def test_every_other_option_composes_and_binds(group: str, name: str) -> None:
    pair = () if (group, name) == ("experiment", "demo") else PAIR
    config = compose([*pair, f"{group}={name}", *NEEDED.get((group, name), [])])
    assert config["choices"][group] == name
    binds(config)


def test_every_exception_of_a_paper_is_inherited_by_every_size(tmp_path: Path) -> None:
    conf = Path(shutil.copytree(FOLDERS[0], tmp_path / "conf"))
    (conf / "recipe" / "bert" / "glue").mkdir(parents=True, exist_ok=True)
    (conf / "recipe" / "bert" / "glue" / "wnli.yaml").write_text("batch_size: 48\n")
    for recipe in options("recipe", (conf,)):
        stated = yaml.safe_load((conf / "recipe" / f"{recipe}.yaml").read_text())
        stated.pop("defaults", None)
        family, _, task = recipe.partition("/")
        for model in [name for name in MODELS if name.startswith(family)][:: len(MODELS) // 2]:
            config = compose([f"model={model}", f"task={task}"], str(conf))
            assert {key: config["recipe"][key] for key in stated} == stated
            assert config["recipe"]["epochs"] == 3 or "epochs" in stated or task in PRETRAINING
    assert (
        compose(["model=bert_large", "task=glue/wnli", "recipe.batch_size=8"], str(conf))["recipe"]["batch_size"] == 8
    )


def test_the_exceptions_of_the_paper() -> None:
    large = compose(["model=bert_large", "task=squad/v2"])["recipe"]
    assert (large["batch_size"], large["epochs"], large["lr"]) == (48, 2, 5e-5)
    assert compose(["model=bert_l2_h128", "task=swag"])["recipe"]["lr"] == 2e-5
    pretraining = compose(["model=bert_large", "task=pretrain/ltr"])
    wanted = {
        "lr": 1e-4,
        "warmup": 10000,
        "weight_decay": 0.01,
        "betas": [0.9, 0.999],
        "eps": 1e-6,
        "max_steps": 1000000,
    }
    assert {key: pretraining["recipe"][key] for key in wanted} == wanted
    assert pretraining["trainer"]["max_epochs"] is None


def test_sizes_are_the_published_ones() -> None:
    large = compose(["model=bert_large", "task=glue/mnli"])["model"]
    assert (large["n_layers"], large["d_model"], large["n_heads"], large["d_ff"]) == (24, 1024, 16, 4096)
    assert compose(["model=bert_large_cased", "task=glue/mnli"])["model"]["vocab_size"] == 28996
    for name in sorted(MINIATURES):
        node = compose([f"model={name}", "task=glue/mnli"])["model"]
        layers, width = (int(part[1:]) for part in name.split("_")[1:])
        assert (node["n_layers"], node["d_model"], node["n_heads"], node["d_ff"]) == (
            layers,
            width,
            width // 64,
            4 * width,
        )
        assert node["published"]["repo"] == f"google/bert_uncased_L-{layers}_H-{width}_A-{width // 64}"


def test_the_demo_needs_no_network_and_no_tracker() -> None:
    config = compose(["experiment=demo"])
    assert config["choices"]["source"] == "sample"
    assert config["init_from"] == "scratch"
    assert config["tracking"]["mode"] == "none"
    assert config["model"]["n_layers"] == 2


def test_pairs_that_may_change_places_are_those_of_similarity() -> None:
    """Radford et al. 2018, section 3.3; the tasks of its table 4."""
    symmetric = {task for task in ELEVEN | GPTS if compose(["model=bert", f"task={task}"])["task"]["rows"].get("symmetric")}
    assert symmetric == {"glue/mrpc", "glue/qqp", "glue/stsb"}


def test_story_cloze_is_learned_from_its_validation_set() -> None:
    """1,497 of 1,871 stories, and the other 374 choose the best checkpoint, as in the paper's code."""
    from protoformer.data.sources import Part

    splits = compose(["model=bert", "task=story_cloze"])["task"]["splits"]
    train, validation = (Part.of(splits[role]) for role in ("train", "validation"))
    assert (train.split, validation.split, splits["test"]) == ("validation", "validation", "test")
    assert (train.rows(1871), validation.rows(1871)) == (range(1497), range(1497, 1871))


def test_mnli_keeps_its_two_dev_and_test_sets_apart() -> None:
    splits = compose(["model=bert", "task=glue/mnli"])["task"]["splits"]
    assert set(splits["validation"]) == set(splits["test"]) == {"matched", "mismatched"}
    assert compose(["model=bert", "task=glue/ax"])["task"]["splits"] == {
        "train": None,
        "validation": None,
        "test": "test",
    }
