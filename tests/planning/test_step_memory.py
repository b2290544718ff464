"""Planned memory against what torch's allocator hands out in real training steps, and the limits of the simulation."""

import gc
import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from protoformer.assembly.model import build_module, builder_arguments
from protoformer.config.compose import compose
from protoformer.planning.plan import plan
from protoformer.planning.step_memory import LiveBytes, StepMemory

SMALL = ["model.vocab_size=4000", "model.d_model=128", "model.d_ff=512", "model.n_layers=2", "hardware=cpu"]
BERT = [
    "model=bert_l2_h128",
    "task=glue/mnli",
    "task.max_len=64",
    "recipe.batch_size=12",
    "model.vocab_size=4000",
    "hardware=cpu",
]
GPT2 = ["model=gpt2_tiny", "task=pretrain/clm", "model.max_seq_len=160", "task.max_len=160", "recipe.batch_size=4"]
TRANSFORMER = ["model=transformer_tiny", "task=translate/wmt14_en_de", "task.max_len=64", "recipe.batch_size=512"]


@pytest.fixture(scope="module")
def plan_memory() -> ModuleType:
    path = Path(__file__).parents[2] / "benchmarks" / "plan_memory.py"
    spec = importlib.util.spec_from_file_location("plan_memory", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    "overrides",
    [
        pytest.param(BERT, id="bert"),
        pytest.param([*GPT2, *SMALL], id="gpt2"),
        pytest.param([*TRANSFORMER, *SMALL], id="transformer"),
        pytest.param([*BERT, "hardware.micro_batch=4"], id="micro-batches"),
        pytest.param([*BERT, "hardware.checkpoint_activations=true"], id="recomputed"),
        pytest.param([*BERT, "hardware.packing=off", "model.attention_dropout=0"], id="padded"),
        pytest.param([*BERT, "recipe.batch_size=1", "recipe.bias_correction=false"], id="optimizer"),
    ],
)
def test_the_planned_peak_is_that_of_the_allocator(plan_memory: ModuleType, overrides: list[str]) -> None:
    config = compose(overrides)
    gc.collect()  # what earlier tests left is not freed within the measurement
    assert plan(config).memory.total == pytest.approx(plan_memory.allocated_peak(config), rel=0.1)


def test_bytes_are_counted_while_a_storage_lives() -> None:
    with LiveBytes() as live:
        a = torch.empty(1000)
        view = a[:10]
        b = a + 1
        assert live.now == live.peak == 8000
        del a
        assert live.now == 8000  # the view keeps the whole storage
        del view, b
        assert (live.now, live.peak) == (0, 8000)


def memory_of(tokens: int, *overrides: str) -> StepMemory:
    config = compose([*BERT, *overrides])
    with torch.device("meta"):
        module: Any = build_module(config, builder_arguments(config["model"]))
    return StepMemory(module, config["hardware"], tokens)


def test_bytes_of_many_rows_follow_from_those_of_some() -> None:
    memory = memory_of(64)
    expected = memory.of(40)
    memory.rows = 40
    assert expected == pytest.approx(memory.of(40), rel=0.01)


def test_a_gpu_holds_no_attention_weights() -> None:
    cpu, gpu = (memory_of(512, *overrides).of(2) for overrides in ([], ["hardware.accelerator=gpu"]))
    attention_weights = 2 * 2 * 2 * 512 * 512 * 4  # layers, heads, rows, and the square of the tokens
    assert attention_weights / 2 < cpu - gpu < 2 * attention_weights
