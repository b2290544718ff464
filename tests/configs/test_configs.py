"""Every yaml in conf/ is a test case: it composes, resolves, is checked, and binds to its targets' real signatures."""

import importlib
import inspect
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from protoformer.assembly.model import NOT_OF_THE_BUILDER
from protoformer.config.annotations.signatures import members
from protoformer.config.compose import compose
from protoformer.config.groups import options
from protoformer.config.schema import SUPPLIED, Model
from protoformer.errors import ConfigurationError

ROOT = Path(__file__).parents[2]
FOLDERS = (ROOT / "conf",)
MODELS, TASKS = options("model", FOLDERS), options("task", FOLDERS)
PAIR = ("model=bert_l2_h128", "task=glue/rte")
OTHERS = [
    (group, name)
    for group in ("hardware", "source", "tracking", "debug", "experiment", "family", "predicts", "paths", "trainer")
    for name in options(group, FOLDERS)
]
GLUE = ("ax", "cola", "mnli", "mrpc", "qnli", "qqp", "rte", "sst2", "stsb", "wnli")
MINIATURES = {f"bert_l{layers}_h{width}" for layers in (2, 4, 6, 8, 10, 12) for width in (128, 256, 512, 768)}
BERTS = MINIATURES | {"bert", "bert_large", "bert_base_cased", "bert_large_cased"}
GPT3S = {f"gpt3_{size}" for size in ("small", "medium", "large", "xl", "2b7", "6b7", "13b", "175b")}
TINY_DECODERS = {"gpt_tiny", "gpt2_tiny", "gpt3_tiny", "gpt_rotary_tiny"}
DECODERS = GPT3S | TINY_DECODERS | {"gpt", "gpt2", "gpt2_ladder", "gpt2_medium", "gpt2_large", "gpt2_xl"}
NEEDED = {
    ("source", "local"): ["source.root=folder"],
    ("source", "parallel"): ["source.root=folder"],
    ("source", "files"): ["source.files=*.txt"],
}
ELEVEN = {
    *(f"glue/{name}" for name in GLUE if name not in ("ax", "wnli")),
    "squad/v1",
    "squad/v2",
    "swag",
}  # the paper's
GPTS = {"snli", "scitail", "race/all", "race/middle", "race/high", "story_cloze"}  # what GPT used besides GLUE
PRETRAINING = {"pretrain/mlm_nsp", "pretrain/ltr"}
RUNNING = {"pretrain/clm"}  # a decoder's alone
IN_CONTEXT = ("incontext/", "lm/")  # so are these
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
        given = set(node) - {"_target_"} - (set(NOT_OF_THE_BUILDER) if path == "model" else set())
        assert given <= set(taken), f"{path}: {node['_target_']} takes no {given - set(taken)}"
        late = set(SUPPLIED.get(path, {}))
        named = {key: item for key, item in taken.items() if item.kind is not item.VAR_KEYWORD}
        needed = {key for key, item in named.items() if item.default is item.empty} - given - late
        assert not needed, f"{path}: {node['_target_']} needs {needed}"


def reader(task: str) -> str:
    """A model whose template writes this task's texts."""
    return (
        "gpt2"
        if task in RUNNING or task.startswith(IN_CONTEXT)
        else "transformer"
        if task.startswith("translate/")
        else "bert"
    )


def family_of(model: str) -> str:
    first = model.partition("_")[0]
    return {"opus": "transformer"}.get(first, first)


def on_some_task(model: str) -> dict[str, Any]:
    try:
        return compose([f"model={model}", "task=glue/mnli"])
    except ConfigurationError:  # its template writes nothing but translations
        return compose([f"model={model}", "task=translate/multi30k_en_de"])


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
    walked |= {f"{group}/{name}.yaml" for group, name in OTHERS}
    of_families = ("recipe", "architecture")  # composed with the models and tasks that choose them
    walked |= {f"{group}/{name}.yaml" for group in of_families for name in options(group, FOLDERS)}
    assert set(files) - bases - {"train.yaml"} == walked


WINOGRANDE = {f"winogrande/{size}" for size in ("xs", "s", "m", "l", "xl", "debiased")}
OWN = {  # tasks of one's own data, and what must be said of it
    "classify": ["task.rows.text=review"],
    "regress": ["task.rows.text=review"],
    "choice": ["task.rows.context=question", "task.rows.choices=[a,b]"],
    "qa": [],
    "translate/own": ["task.rows.source=fr", "task.rows.target=it"],
}
FILES = {"lm/files": ["source=files", "source.files=[held_out.txt]"]}
CHOICES = {"arc/easy", "arc/challenge", "openbookqa", "boolq", *WINOGRANDE}


def test_what_was_promised_is_there() -> None:
    assert {name for name in MODELS if name.startswith(("bert", "gpt"))} == BERTS | DECODERS
    assert (len(MINIATURES), len(BERTS), len(DECODERS)) == (24, 28, 18)
    assert len(ELEVEN) == 11
    texts = {name for name in TASKS if not name.startswith(("translate/", *IN_CONTEXT))}
    assert texts == ELEVEN | GPTS | {"glue/ax", "glue/wnli"} | PRETRAINING | RUNNING | CHOICES | (
        OWN.keys() - {"translate/own"}
    )
    assert set(options("hardware", FOLDERS)) == {
        *("auto", "cpu", "gpu", "gpu_bf16", "ddp", "ddp_bf16", "ddp_cpu", "fsdp", "fsdp_bf16", "fsdp_cpu", "slurm")
    }
    assert set(options("source", FOLDERS)) == {"files", "hub", "local", "parallel", "sample"}
    assert set(options("family", FOLDERS)) >= {"bert", "gpt", "gpt2", "gpt3", "none"}
    assert set(options("tracking", FOLDERS)) == {"auto", "none", "tensorboard", "wandb", "wandb_offline"}
    assert len(OTHERS) >= 28


@pytest.mark.parametrize("model", MODELS)
def test_every_model_composes_and_binds(model: str) -> None:
    config = on_some_task(model)
    assert config["choices"]["family"] == family_of(model)
    assert set(config["model"]) >= set(NOT_OF_THE_BUILDER) == set(Model.__dataclass_fields__)
    binds(config)


@pytest.mark.parametrize("task", TASKS)
def test_every_task_composes_and_binds_and_its_template_encodes_it(task: str) -> None:
    needed = [*OWN[task], "source=local", "source.root=folder"] if task in OWN else FILES.get(task, [])
    config = compose([f"model={reader(task)}", f"task={task}", *needed])
    binds(config)
    method = members(config["task"]["data"]["_target_"])["template_method"]
    assert method in members(config["model"]["template"]["_target_"])
    if reader(task) != "bert":
        return
    fitted = FITTED.get(task, (32, 3))  # arXiv 1810.04805, section 4.1
    assert (config["recipe"]["batch_size"], config["recipe"]["epochs"]) == fitted


@pytest.mark.parametrize(("group", "name"), OTHERS)
def test_every_other_option_composes_and_binds(group: str, name: str) -> None:
    pair = () if group == "experiment" and name.startswith("demo") else PAIR
    config = compose([*pair, f"{group}={name}", *NEEDED.get((group, name), [])])
    assert config["choices"][group] == name
    binds(config)


def test_every_exception_of_a_paper_is_inherited_by_every_size(tmp_path: Path) -> None:
    conf = Path(shutil.copytree(FOLDERS[0], tmp_path / "conf"))
    (conf / "recipe" / "bert" / "glue").mkdir(parents=True, exist_ok=True)
    (conf / "recipe" / "bert" / "glue" / "wnli.yaml").write_text("batch_size: 48\n")
    for recipe in options("recipe", (conf,)):
        stated = yaml.safe_load((conf / "recipe" / f"{recipe}.yaml").read_text())
        family, _, task = recipe.partition("/")
        if family not in ("bert", "gpt", "gpt2", "gpt3"):
            continue
        own = stated.get("recipe", {} if "model" in stated else stated)  # global ones may state the model alone
        stated_recipe = {key: value for key, value in own.items() if key != "defaults"}
        sizes = [name for name in MODELS if family_of(name) == family]
        for model in (sizes[0], sizes[-1]):
            config = compose([f"model={model}", f"task={task}"], str(conf))
            assert {key: config["recipe"][key] for key in stated_recipe} == {
                key: resolved(config, value) for key, value in stated_recipe.items()
            }
            assert config["recipe"]["epochs"] == 3 or "epochs" in stated_recipe or task in PRETRAINING
    assert (
        compose(["model=bert_large", "task=glue/wnli", "recipe.batch_size=8"], str(conf))["recipe"]["batch_size"] == 8
    )


def resolved(config: dict[str, Any], value: Any) -> Any:
    """What `${a.b}` stands for."""
    if not isinstance(value, str) or not value.startswith("${"):
        return value
    node: Any = config
    for name in value[2:-1].split("."):
        node = node[name]
    return node


def test_the_exceptions_of_the_paper() -> None:
    large = compose(["model=bert_large", "task=squad/v2"])["recipe"]
    assert (large["batch_size"], large["epochs"], large["lr"]) == (48, 2, 5e-5)
    assert compose(["model=bert_l2_h128", "task=swag"])["recipe"]["lr"] == 2e-5
    pretraining = compose(["model=bert_large", "task=pretrain/ltr"])
    expected = {
        "lr": 1e-4,
        "warmup": 10000,
        "weight_decay": 0.01,
        "betas": [0.9, 0.999],
        "eps": 1e-6,
        "max_steps": 1000000,
    }
    assert {key: pretraining["recipe"][key] for key in expected} == expected
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
        assert node["hf"]["repo"] == f"google/bert_uncased_L-{layers}_H-{width}_A-{width // 64}"


def test_gpts_are_fitted_as_published() -> None:
    """Radford et al. 2018, section 4.1; GPT-2's and GPT-3's papers fine-tune nothing, so they are fitted alike."""
    expected = {
        "lr": 6.25e-5,
        "batch_size": 32,
        "epochs": 3,
        "warmup": 0.002,
        "schedule": "linear",
        "aux_lm_weight": 0.5,
    }
    expected |= {"clip": 1.0, "weight_decay": 0.01, "eps": 1e-8}
    for model in ("gpt", "gpt2_xl", "gpt3_175b"):
        recipe = compose([f"model={model}", "task=glue/rte"])["recipe"]
        assert {key: recipe[key] for key in expected} == expected


def test_gpts_are_pretrained_as_published() -> None:
    gpt = compose(["model=gpt", "task=pretrain/clm"])
    expected = {"lr": 2.5e-4, "batch_size": 64, "epochs": 100, "warmup": 2000, "schedule": "cosine", "final_lr": 0.0}
    assert {key: gpt["recipe"][key] for key in expected} == expected
    assert (gpt["task"]["max_len"], gpt["task"]["rows"]["parts"][0]["dataset"]) == (512, "bookcorpus/bookcorpus")
    gpt2 = compose(["model=gpt2_medium", "task=pretrain/clm"])
    assert (gpt2["task"]["max_len"], gpt2["recipe"]["batch_size"], gpt2["recipe"]["lr"]) == (1024, 512, 3e-4)


@pytest.mark.parametrize(("size", "lr", "tokens"), [
    ("small", 6e-4, 0.5), ("medium", 3e-4, 0.5), ("large", 2.5e-4, 0.5), ("xl", 2e-4, 1), ("2b7", 1.6e-4, 1),
    ("6b7", 1.2e-4, 2), ("13b", 1e-4, 2), ("175b", 0.6e-4, 3.2),
])  # fmt: skip
def test_gpt3_is_pretrained_as_published(size: str, lr: float, tokens: float) -> None:
    """arXiv 2005.14165, table 2.1 (batches in millions of tokens) and appendix B."""
    config = compose([f"model=gpt3_{size}", "task=pretrain/clm"])
    recipe, length = config["recipe"], config["task"]["max_len"]
    assert recipe["lr"] == lr
    assert length == 2048
    assert recipe["batch_size"] * length / 1e6 == pytest.approx(tokens, rel=0.05)
    steps = 300e9 / (recipe["batch_size"] * length)
    assert recipe["max_steps"] == pytest.approx(steps, rel=0.001)
    assert recipe["warmup"] * 300e9 == 375e6
    assert recipe["decay"] * 300e9 == pytest.approx(260e9, rel=0.001)
    assert (recipe["final_lr"], recipe["betas"], recipe["eps"], recipe["clip"]) == (0.1, [0.9, 0.95], 1e-8, 1.0)
    assert (recipe["weight_decay"], recipe["schedule"]) == (0.1, "cosine")
    assert (config["model"]["attention"], config["model"]["band"]) == (["dense", "banded"], 256)


def test_the_demo_needs_no_network_and_no_tracker() -> None:
    config = compose(["experiment=demo"])
    assert config["choices"]["source"] == "sample"
    assert config["init_from"] == "scratch"
    assert config["tracking"]["mode"] == "none"
    assert config["model"]["n_layers"] == 2


def test_pairs_that_may_change_places_are_those_of_similarity() -> None:
    """Radford et al. 2018, section 3.3; the tasks of its table 4."""
    symmetric = {
        task for task in ELEVEN | GPTS if compose(["model=bert", f"task={task}"])["task"]["rows"].get("symmetric")
    }
    assert symmetric == {"glue/mrpc", "glue/qqp", "glue/stsb"}


def test_story_cloze_is_learned_from_its_validation_set() -> None:
    """1,497 of 1,871 stories, and the other 374 choose the best checkpoint, as in the paper's code."""
    from protoformer.data.sources.source import SplitSlice

    splits = compose(["model=bert", "task=story_cloze"])["task"]["splits"]
    train, validation = (SplitSlice.parse(splits[role]) for role in ("train", "validation"))
    assert (train.split, validation.split, splits["test"]) == ("validation", "validation", "test")
    assert (train.indices(1871), validation.indices(1871)) == (range(1497), range(1497, 1871))


def test_mnli_keeps_its_two_dev_and_test_sets_apart() -> None:
    splits = compose(["model=bert", "task=glue/mnli"])["task"]["splits"]
    assert set(splits["validation"]) == set(splits["test"]) == {"matched", "mismatched"}
    assert compose(["model=bert", "task=glue/ax"])["task"]["splits"] == {
        "train": None,
        "validation": None,
        "test": "test",
    }
