"""What a precision does to the process before the trainer is built."""

import logging

import pytest
import torch

from protoformer.distributed import strategy
from protoformer.distributed.strategy import enable_tf32


@pytest.mark.parametrize(("accelerator", "precision", "lines"), [("cpu", "highest", 1), ("gpu", "high", 0)])
def test_tf32_is_for_gpus_and_the_cpu_says_so(accelerator: str, precision: str, lines: int) -> None:
    records: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = records.append  # type: ignore[method-assign]
    before, level = torch.get_float32_matmul_precision(), strategy.log.level
    strategy.log.addHandler(handler)
    strategy.log.setLevel(logging.INFO)
    try:
        enable_tf32(accelerator)
        assert torch.get_float32_matmul_precision() == precision
    finally:
        torch.set_float32_matmul_precision(before)
        strategy.log.removeHandler(handler)
        strategy.log.setLevel(level)
    assert [record.getMessage() for record in records] == [
        "hardware.precision=tf32 has no effect on the CPU: this run computes in fp32"
    ] * lines
