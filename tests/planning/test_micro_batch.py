"""The micro-batch that a card of a given size holds."""

import pytest
import torch

from protoformer.assembly.model import builder_arguments
from protoformer.config.compose import compose
from protoformer.data.batching.samplers import BatchConfig
from protoformer.planning.micro_batch import USABLE, RowMemory, fitting_micro_batch, row_memory
from protoformer.planning.plan import plan

GIB = 2**30


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_rows_cost_what_the_plan_says(precision: str) -> None:
    words = ["model=gpt2_tiny", "task=pretrain/clm", "hardware=cpu", f"hardware.precision={precision}"]
    config = compose([*words, "task.max_len=64", "recipe.batch_size=24"])
    memory = row_memory(config, builder_arguments(config["model"]), 64)
    assert memory.fixed + 24 * memory.per_row == pytest.approx(plan(config).memory.total, rel=2e-2)


@pytest.mark.parametrize(
    ("batch", "per_row", "expected", "accumulation"),
    [
        (BatchConfig(512), GIB, 47, 11),  # 598 GiB were asked for at once: 11 x 47, of at most 50
        (BatchConfig(512, ranks=8), GIB, 32, 2),
        (BatchConfig(32), GIB, None, 1),  # all fits
        (BatchConfig(32), 100 * GIB, 1, 32),  # not even a row by estimate: one row is tried
        (BatchConfig(25_000, order="tokens"), GIB, 3125, 8),  # tokens: at most 50 rows of 64
    ],
)
def test_as_few_parts_as_possible_of_equal_size(
    batch: BatchConfig, per_row: int, expected: int | None, accumulation: int
) -> None:
    memory = RowMemory(fixed=14 * GIB, per_row=per_row)
    micro_batch = fitting_micro_batch(batch, memory, tokens=64, device_bytes=int(64.5 * GIB / USABLE))
    assert micro_batch == expected
    assert BatchConfig(batch.batch_size, micro_batch, ranks=batch.ranks).accumulation == accumulation


def test_nothing_is_allocated_for_the_estimate() -> None:
    config = compose(["model=gpt2_xl", "task=pretrain/clm", "hardware=gpu"])
    memory = row_memory(config, builder_arguments(config["model"]), 16)
    assert memory.fixed > 20 * GIB  # weights, gradients, and two moments of Adam
    assert torch.get_default_device() == torch.device("cpu")
