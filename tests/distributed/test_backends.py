"""Torch's process-wide switches, which each run sets anew."""

import logging
from collections.abc import Iterator

import pytest
import torch

from protoformer.distributed import backends
from protoformer.distributed.backends import configure_allocator, configure_backends


@pytest.fixture(autouse=True)
def switches_as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("PYTORCH_ALLOC_CONF", "")
    matmul, cudnn = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    attention = torch.backends.cuda.cudnn_sdp_enabled()
    yield
    torch.set_float32_matmul_precision(matmul)
    torch.backends.cudnn.allow_tf32 = cudnn
    torch.backends.cuda.enable_cudnn_sdp(attention)


def switches() -> tuple[str, bool, bool]:
    return (
        torch.get_float32_matmul_precision(),
        torch.backends.cudnn.allow_tf32,
        torch.backends.cuda.cudnn_sdp_enabled(),
    )


def test_a_run_in_fp32_after_one_in_tf32_is_in_fp32() -> None:
    """-m hardware.precision=tf32,fp32: the second job must not inherit the first one's switches."""
    torch.backends.cudnn.allow_tf32 = True  # torch's default
    configure_backends("tf32", "gpu")
    assert switches() == ("high", True, False)
    configure_backends("fp32", "gpu")
    assert switches() == ("highest", False, False)
    configure_backends("bf16", "gpu")
    assert switches() == ("highest", False, False)


def test_tf32_is_for_gpus_and_the_cpu_says_so(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backends.log, "propagate", True)
    with caplog.at_level(logging.INFO, logger=backends.log.name):
        configure_backends("tf32", "cpu")
        configure_backends("fp32", "cpu")
    assert switches() == ("highest", False, False)
    assert [record.getMessage() for record in caplog.records] == [
        "hardware.precision=tf32 has no effect on the CPU: this run computes in fp32"
    ]


def test_the_allocator_grows_in_place_unless_the_user_has_set_it() -> None:
    environ: dict[str, str] = {}
    configure_allocator(environ)
    assert environ == {"PYTORCH_ALLOC_CONF": "expandable_segments:True"}
    for name in ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"):
        typed = {name: "max_split_size_mb:128"}
        configure_allocator(typed)
        assert typed == {name: "max_split_size_mb:128"}
