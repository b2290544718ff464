"""GPT's, GPT-2's and GPT-3's sizes: parameters of what their yaml builds, on the meta device; their pretraining."""

import pytest
import torch
from hydra.utils import instantiate

from protoformer.assembly.model import builder_arguments
from protoformer.config.compose import compose

COUNTS = {  # exact
    "gpt": 116_534_784,
    "gpt2": 124_439_808,
    "gpt2_medium": 354_823_168,
    "gpt2_large": 774_030_080,
    "gpt2_xl": 1_557_611_200,
}
PRINTED = {  # arXiv 2005.14165, table 2.1, in millions; how far rounding, and the sizes that do not multiply, leave room
    "gpt3_small": (125, 0.01),
    "gpt3_medium": (350, 0.02),
    "gpt3_large": (760, 0.01),
    "gpt3_xl": (1300, 0.02),
    "gpt3_2b7": (2700, 0.02),
    "gpt3_6b7": (6700, 0.01),
    "gpt3_13b": (13000, 0.02),
    "gpt3_175b": (175_000, 0.005),
}


def parameters(model: str) -> int:
    config = compose([f"model={model}", "task=pretrain/clm"])
    with torch.device("meta"):
        built = instantiate(builder_arguments(config["model"]), _convert_="all")
    assert all(parameter.is_meta for parameter in built.parameters())
    return sum(parameter.numel() for parameter in built.parameters())


@pytest.mark.parametrize("model", COUNTS)
def test_a_published_model_has_its_parameters(model: str) -> None:
    assert parameters(model) == COUNTS[model]


@pytest.mark.parametrize("model", PRINTED)
def test_gpt3_has_as_many_as_are_printed(model: str) -> None:
    millions, room = PRINTED[model]
    assert parameters(model) / 1e6 == pytest.approx(millions, rel=room)


@pytest.mark.parametrize(("model", "tokens"), [("gpt3_small", 2**19), ("gpt3_xl", 2**20), ("gpt3_13b", 2**21)])
def test_gpt3_sees_its_tokens_once(model: str, tokens: int) -> None:
    recipe = compose([f"model={model}", "task=pretrain/clm"])["recipe"]
    assert recipe["batch_size"] * 2048 == tokens
    assert recipe["max_steps"] * tokens == pytest.approx(300e9, rel=0.001)
    assert recipe["max_steps"] * recipe["warmup"] * tokens == pytest.approx(375e6, rel=0.001)
    assert recipe["max_steps"] * recipe["decay"] * tokens == pytest.approx(260e9, rel=0.001)
    assert (recipe["schedule"], recipe["final_lr"], recipe["clip"]) == ("cosine", 0.1, 1.0)


def test_gpt_pretrains_on_books_and_gpt2_on_the_web() -> None:
    books, web = (compose([f"model={model}", "task=pretrain/clm"]) for model in ("gpt", "gpt2"))
    assert [part["dataset"] for part in books["task"]["rows"]["parts"]] == ["bookcorpus/bookcorpus"]
    assert [part["dataset"] for part in web["task"]["rows"]["parts"]] == ["Skylion007/openwebtext"]
    recipe = books["recipe"]
    assert [recipe[key] for key in ("lr", "warmup", "schedule", "batch_size", "epochs")] == [
        2.5e-4,
        2000,
        "cosine",
        64,
        100,
    ]
    assert (books["task"]["max_len"], web["task"]["max_len"]) == (512, 1024)


def test_fine_tuning_is_the_papers() -> None:
    recipe = compose(["model=gpt", "task=glue/rte"])["recipe"]
    expected = {
        "lr": 6.25e-5,
        "batch_size": 32,
        "epochs": 3,
        "warmup": 0.002,
        "aux_lm_weight": 0.5,
        "schedule": "linear",
    }
    assert {key: recipe[key] for key in expected} == expected
