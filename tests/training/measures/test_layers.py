"""Norms of each layer: their sums, ranks that share the weights, and a run that they do not change."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from protoformer.config.compose import compose
from protoformer.config.schema import Trainer
from protoformer.models.weights import read_checkpoint
from protoformer.runs.metrics import read_metrics
from protoformer.training.measures.layers import layer_of
from protoformer.training.run import train

from ...forked_ranks import forked_ranks

WORDS = [
    *("model=bert_l2_h128", "model.d_model=16", "model.d_ff=32", "task=glue/mrpc", "task.max_len=24", "source=sample"),
    *("source.rows=60", "init_from=scratch", "tracking=none", "recipe.batch_size=8", "recipe.max_steps=4"),
    *("recipe.lr=1e-3", "recipe.clip=0.05", "trainer.log_every=2", "trainer.keep_optimizer=true", "hardware.threads=1"),
]
LAYERS = {"embeddings", "stack.layers.0", "stack.layers.1", "pooler", "head"}


def run(outputs: Path, *overrides: str) -> Path:
    paths = [f"paths.outputs={outputs}", f"paths.cache={outputs.parent / 'cache'}"]
    with forked_ranks():
        train(compose([*WORDS, *paths, *overrides]), "")
    return next(outputs.rglob("result.json")).parent


def steps(folder: Path) -> dict[int, dict[str, float]]:
    return {line["step"]: line for line in read_metrics(folder / "metrics.jsonl") if "train/loss" in line}


def watched(line: dict[str, float], quantity: str) -> dict[str, float]:
    prefix = f"watch/{quantity}/"
    return {name.removeprefix(prefix): value for name, value in line.items() if name.startswith(prefix)}


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("backbone.stack.layers.11.attention.qkv.weight", "stack.layers.11"),
        ("backbone.decoder.layers.0.cross_attention.query.bias", "decoder.layers.0"),
        ("backbone.stack.final_norm.weight", "stack.final_norm"),
        ("backbone.embeddings.token.weight", "embeddings"),
        ("head.linear.weight", "head"),
    ],
)
def test_layers_by_the_names_of_their_weights(name: str, layer: str) -> None:
    assert layer_of(name) == layer


def test_a_watched_run_is_the_same_run(tmp_path: Path) -> None:
    assert Trainer().watch == "none"
    plain, seen = run(tmp_path / "plain"), run(tmp_path / "watched", "trainer.watch=layers")
    assert plain.name == seen.name
    lines = steps(seen)
    expected: Any = [(line["train/loss"], line["train/grad_norm"]) for line in steps(plain).values()]
    assert [(line["train/loss"], line["train/grad_norm"]) for line in lines.values()] == expected
    weights, others = (read_checkpoint(folder / "checkpoints" / "last.ckpt")["state_dict"] for folder in (plain, seen))
    assert all(torch.equal(tensor, others[name]) for name, tensor in weights.items())
    for line in lines.values():  # the gradient's norm is before the clip, which all of them are above
        norms = watched(line, "grad_norm")
        assert norms.keys() == LAYERS
        assert math.hypot(*norms.values()) == pytest.approx(line["train/grad_norm"], rel=1e-4)
        assert line["train/grad_norm"] > 0.05
    for layer, ratio in watched(lines[4], "update_ratio").items():
        assert 0 < ratio < 0.1, layer
        assert watched(lines[4], "update_norm")[layer] > 0


def test_ranks_that_share_the_weights_have_the_norms_of_one_process(tmp_path: Path) -> None:
    no_dropout = ("model.dropout=0", "model.attention_dropout=0", "recipe.max_steps=2", "trainer.watch=layers")
    whole = steps(run(tmp_path / "cpu", *no_dropout))
    sharded = steps(run(tmp_path / "fsdp", "hardware=fsdp_cpu", *no_dropout))
    for quantity in ("grad_norm", "update_norm", "update_ratio"):
        assert watched(sharded[2], quantity) == pytest.approx(watched(whole[2], quantity), rel=1e-3)
