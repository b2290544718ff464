"""Every Transformer with every translation task composes and builds; sizes and recipes are the paper's."""

import pytest
import torch

from protoformer.assembly.instantiate import instantiate
from protoformer.assembly.model import build_module, builder_arguments
from protoformer.config.compose import compose
from protoformer.errors import ConfigurationError
from protoformer.planning.plan import plan

MODELS = ("transformer", "transformer_big", "transformer_small", "transformer_tiny", "opus_mt_en_de")
TASKS = ("multi30k_de_en", "multi30k_en_de", "wmt14_en_de", "wmt14_en_fr")


@pytest.mark.parametrize(
    ("model", "task"), [*((model, TASKS[0]) for model in MODELS), *((MODELS[3], task) for task in TASKS[1:])]
)
def test_every_pair_composes_and_builds(model: str, task: str) -> None:
    config = compose([f"model={model}", f"task=translate/{task}"])
    with torch.device("meta"):
        module = build_module(config, builder_arguments(config["model"]))
    assert module.label_smoothing == 0.1
    rows = instantiate(config, "task.rows")
    assert f"{rows.source}_{rows.target}" == task[-5:]
    assert instantiate(config, "task.vocabulary").size == config["task"]["vocabulary"]["size"]


@pytest.mark.parametrize(("model", "parameters"), [("transformer", 63_082_496), ("transformer_big", 214_245_376)])
def test_the_papers_sizes_and_recipe(model: str, parameters: int) -> None:
    config = compose([f"model={model}", "task=translate/wmt14_en_de", "hardware.micro_batch=500"])
    cost = plan(config)
    assert cost.parameters == parameters
    recipe = config["recipe"]
    assert (recipe["batching"], recipe["batch_size"], recipe["warmup"], recipe["schedule"]) == (
        "tokens",
        25000,
        4000,
        "noam",
    )
    assert (recipe["betas"], recipe["eps"], recipe["weight_decay"], recipe["clip"]) == ([0.9, 0.98], 1e-9, 0, None)
    steps, averaged = {"transformer": (100_000, 5), "transformer_big": (300_000, 20)}[model]
    assert (recipe["max_steps"], recipe["average"], recipe["epochs"]) == (steps, averaged, None)
    assert cost.steps == steps
    assert config["task"]["vocabulary"]["size"] == 37000


def test_the_exceptions() -> None:
    big = [
        compose(["model=transformer_big", f"task=translate/wmt14_en_{other}"])["model"]["dropout"]
        for other in ("de", "fr")
    ]
    assert big == [0.3, 0.1]
    given = compose(["model=transformer_big", "task=translate/wmt14_en_fr", "model.dropout=0.2"])
    assert given["model"]["dropout"] == 0.2
    small = compose(["model=transformer_small", "task=translate/multi30k_de_en"])["recipe"]
    assert (small["batch_size"], small["max_steps"], small["epochs"]) == (2500, -1, 30)


def test_a_translation_model_reads_no_single_texts_and_others_translate_nothing() -> None:
    with pytest.raises(ConfigurationError, match="transformer"):
        compose(["model=transformer", "task=glue/mnli"])
    with pytest.raises(ConfigurationError, match=r"choose|transformer"):
        compose(["model=bert", "task=translate/multi30k_en_de"])


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("recipe.label_smoothing=1", "label_smoothing"),
        ("recipe.average=0", "recipe.average=0"),
        ("recipe.average_every=0", "average_every"),
        ("recipe.schedule=noan", "noam"),
        ("task.rows.sorce=en", "source"),
        ("task.vocabulary.kind=bite", "bytelevel"),
    ],
)
def test_what_cannot_be_is_refused(key: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        compose(["model=transformer", "task=translate/multi30k_en_de", key])
