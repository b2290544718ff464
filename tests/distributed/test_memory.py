"""Memory that runs out: which errors say so, and what the line of each command names."""

import errno
from functools import partial
from typing import Any

import pytest
import torch

from protoformer.commands.parser import guarded
from protoformer.distributed.memory import batch_advice, is_out_of_memory, memory_advice
from protoformer.errors import DeviceMemoryError

FAILED = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    MemoryError(),
    OSError(errno.ENOMEM, "Cannot allocate memory"),
]


@pytest.mark.parametrize("error", FAILED, ids=lambda error: type(error).__name__)
def test_a_failed_allocation_is_one_line(error: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    assert is_out_of_memory(error)

    def work(*_: Any) -> int:
        raise error

    advice = partial(batch_advice, 8, "rows", "--n ")
    with (
        pytest.raises(DeviceMemoryError, match=r"^out of memory with 8 rows at once; .*: --n 4$"),
        memory_advice(advice),
    ):
        work()
    assert guarded(work) == 2
    captured = capsys.readouterr().err
    assert captured.startswith("error: out of memory; shorter texts or a smaller model take less")
    assert captured.count("\n") == 1


def test_other_errors_stay() -> None:
    error = RuntimeError("mat1 and mat2 shapes cannot be multiplied")
    assert not is_out_of_memory(error)
    with pytest.raises(RuntimeError, match="mat1"), memory_advice(lambda: "all"):
        raise error


def test_an_allocation_that_really_fails() -> None:
    advice = partial(batch_advice, 3, "rows", "--n ")
    with (
        pytest.raises(DeviceMemoryError, match=r"^out of memory with 3 rows at once; .*: --n 2$"),
        memory_advice(advice),
    ):
        torch.empty(2**50)


@pytest.mark.parametrize(
    ("held", "smallest", "message"),
    [
        (9, 1, "9 rows at once; half as many, with the same results: --n 5"),
        (9, 6, "9 rows at once; others"),
        (1, 1, "1 row at once; others"),
    ],
)
def test_a_batch_is_halved_as_long_as_it_can_be(held: int, smallest: int, message: str) -> None:
    assert batch_advice(held, "rows", "--n ", smallest, "others") == message
