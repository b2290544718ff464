"""The ladder of sizes: the rule at several depths against values by hand and published ones, and the dial in a command."""

import math
from typing import Any

import pytest

from protoformer.config.compose import compose
from protoformer.config.resolvers import ladder
from protoformer.errors import ConfigurationError
from protoformer.runs.identity import run_id

DEPTHS = range(1, 97)


def composed(*overrides: str) -> dict[str, Any]:
    return compose(["model=gpt2_ladder", "task=pretrain/clm", *overrides])


@pytest.mark.parametrize(
    ("depth", "sizes", "lr", "tokens"),
    [  # by hand: heads = min(depth, 8 + depth / 3); 12 depth d_model^2; D.1 of arXiv 2001.08361; 2^19 (N / 84,934,656)^(1/4)
        (1, (64, 1, 256), 1.7e-3, 2**16),  # N = 49,152: 0.003239 - 0.0001395 x 10.803 = 0.001732; 2^(19 - 2.69)
        (4, (256, 4, 1024), 1.2e-3, 2**18),  # N = 3,145,728: 0.003239 - 0.0001395 x 14.961 = 0.001152; 2^(19 - 1.19)
        (6, (384, 6, 1536), 9.8e-4, 2**18),  # N = 10,616,832: 0.003239 - 0.0001395 x 16.178 = 0.000982; 2^(19 - 0.75)
        (12, (768, 12, 3072), 6.9e-4, 2**19),  # GPT-2 small; GPT-3 small: 6e-4 and 0.5 M tokens
        (24, (1024, 16, 4096), 5.2e-4, 2**19),  # GPT-2 medium; GPT-3 medium: 3e-4 and 0.5 M
        (36, (1280, 20, 5120), 4.0e-4, 2**20),  # GPT-2 large; GPT-3 large (760 M): 2.5e-4 and 0.5 M
        (48, (1536, 24, 6144), 3.1e-4, 2**20),  # GPT-2 XL: 1,600 and 25 heads; GPT-3 XL (1.3 B): 2e-4 and 1 M
        (96, (2560, 40, 10240), 6.6e-5, 2**21),
    ],
)
def test_the_rule_at_a_depth(depth: int, sizes: tuple[int, int, int], lr: float, tokens: int) -> None:
    model, recipe = (composed(f"model.depth={depth}")[node] for node in ("model", "recipe"))
    assert (model["n_layers"], model["d_model"], model["n_heads"], model["d_ff"]) == (depth, *sizes)
    assert recipe["lr"] == lr
    assert recipe["batch_size"] * 1024 == tokens
    assert recipe["max_steps"] * tokens == pytest.approx(1e11, rel=1e-5)


@pytest.mark.parametrize(
    ("parameters", "million_tokens"),
    [(125e6, 0.5), (350e6, 0.5), (760e6, 0.5), (1.3e9, 1), (2.7e9, 1), (6.7e9, 2), (13e9, 2), (175e9, 3.2)],
)
def test_the_trend_of_batches_is_gpt3s(parameters: float, million_tokens: float) -> None:
    """Table 2.1 of arXiv 2005.14165 within a factor of 1.6."""
    trend = 0.5 * (parameters / 125e6) ** ladder.BATCH_EXPONENT
    assert abs(math.log(trend / million_tokens)) < math.log(1.6)


def test_every_dial_is_monotone() -> None:
    for rule in (ladder.d_model, ladder.n_heads, ladder.layer_parameters):
        values = [rule(depth) for depth in DEPTHS]
        assert values == sorted(values)
    rates = [ladder.lr(depth) for depth in DEPTHS]
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] > 0
    batches = [ladder.batch_size(depth, 1024) for depth in DEPTHS]
    assert batches == sorted(batches)


def test_typed_values_win_and_tokens_stay_equal() -> None:
    config = composed("model.depth=4", "recipe.batch_size=8", "task.max_len=128", "model.pretraining.tokens=1e6")
    assert config["recipe"]["max_steps"] == config["trainer"]["max_steps"] == round(1e6 / (8 * 128)) == 977
    assert config["recipe"]["lr"] == 1.2e-3
    assert run_id(config).startswith("seed42-lr0.0012-bs8-")
    config = composed("model.depth=4", "model.d_model=128", "recipe.lr=0.5", "recipe.max_steps=7")
    assert (config["model"]["d_model"], config["model"]["n_heads"], config["recipe"]["lr"]) == (128, 4, 0.5)
    assert config["trainer"]["max_steps"] == 7


def test_the_dial_names_a_run_by_what_follows_from_it() -> None:
    assert run_id(composed("model.depth=2")) != run_id(composed("model.depth=3"))
    assert run_id(composed("model.depth=12")) == run_id(composed())
    typed = ("model.n_layers=2", "model.d_model=128", "model.n_heads=2", "model.d_ff=512", "recipe.lr=0.0014")
    assert run_id(composed("model.depth=2")) == run_id(composed("recipe.batch_size=128", *typed))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.depth=four", r"^model\.depth=four does not fit; expected a whole number$"),
        ("model.depth=0", r"^model\.depth=0 is out of range; expected a value at least 1 and at most 96$"),
        ("model.depth=97", r"^model\.depth=97 is out of range; .* at most 96$"),
        (
            "model.pretraining.tokens=0",
            r"^model\.pretraining\.tokens=0\.0 is out of range; expected a value at least 1$",
        ),
    ],
)
def test_a_depth_that_is_none_is_refused_in_one_line(override: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        composed(override)


def test_a_depth_that_nothing_reads_is_refused() -> None:
    with pytest.raises(
        ConfigurationError, match=r"^model\.depth=4: model=gpt2 is no ladder of sizes.*model=gpt2_ladder"
    ):
        compose(["model=gpt2", "task=pretrain/clm", "model.depth=4"])
