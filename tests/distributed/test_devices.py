"""A GPU's peak speed by its name, and what follows from it."""

from typing import Any

import pytest
import torch
from torch import distributed

from protoformer.distributed import collectives
from protoformer.distributed.devices import DATA_SHEETS, data_sheet, faster_precision
from protoformer.errors import ConfigurationError


@pytest.mark.parametrize(
    ("name", "entry"),
    [
        ("NVIDIA H100 80GB HBM3", "H100"),
        ("NVIDIA H100 PCIe", "H100 PCIe"),
        ("NVIDIA H100 NVL", "H100 NVL"),
        ("NVIDIA H200", "H200"),
        ("NVIDIA H200 NVL", "H200 NVL"),
        ("NVIDIA GH200 480GB", "GH200"),
        ("NVIDIA H20", "H20"),
        ("NVIDIA B200", "B200"),
        ("NVIDIA A100-SXM4-40GB", "A100"),
        ("NVIDIA A10", "A10"),
        ("NVIDIA A10G", "A10G"),
        ("NVIDIA A40", "A40"),
        ("NVIDIA L40", "L40"),
        ("NVIDIA L40S", "L40S"),
        ("NVIDIA L4", "L4"),
        ("Tesla T4", "T4"),
        ("Tesla V100-SXM2-16GB", "V100"),
        ("Tesla V100-PCIE-32GB", "V100 PCIE"),
        ("NVIDIA RTX 6000 Ada Generation", "RTX 6000 Ada"),
        ("NVIDIA RTX A6000", "RTX A6000"),
        ("NVIDIA GeForce RTX 4090", "RTX 4090"),
        ("NVIDIA GeForce RTX 4090 D", "RTX 4090 D"),
        ("NVIDIA GeForce RTX 3090 Ti", "RTX 3090 Ti"),
        ("NVIDIA GeForce RTX 5090", "RTX 5090"),
        ("NVIDIA GeForce RTX 5090 D", None),
        ("NVIDIA GeForce RTX 4080 SUPER", None),
        ("NVIDIA RTX PRO 6000 Blackwell Workstation Edition", "RTX PRO 6000 Blackwell Workstation"),
        ("NVIDIA RTX PRO 6000 Blackwell Max-Q Workstation Edition", "RTX PRO 6000 Blackwell Max-Q Workstation"),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition", None),
        ("NVIDIA T400", None),
        ("Quadro RTX 6000", None),
        ("NVIDIA H100 80GB HBM3 MIG 1g.10gb", None),
        ("NVIDIA A100-SXM4-40GB MIG 3g.20gb", None),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", None),
    ],
)
def test_a_card_is_known_by_the_whole_words_of_its_name(name: str, entry: str | None) -> None:
    assert data_sheet(name) == (None if entry is None else DATA_SHEETS[entry])


def test_a_run_in_fp32_is_told_how_much_faster_the_gpu_is_in_bf16() -> None:
    h100 = "NVIDIA H100 80GB HBM3"
    assert faster_precision("fp32", h100, True) == (
        f"{h100} multiplies large matrices in bf16 15 times as fast as in fp32: hardware.precision=bf16"
    )
    assert "2 times as fast as in tf32" in str(faster_precision("tf32", h100, True))
    assert "several times" in str(faster_precision("fp32", "NVIDIA X1", True))
    assert faster_precision("bf16", h100, True) is None
    assert faster_precision("fp16", h100, True) is None
    assert faster_precision("fp32", "Tesla T4", False) is None


def test_ranks_that_share_a_gpu_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: Any, **__: Any) -> None:
        raise distributed.DistBackendError(
            "NCCL error\nDuplicate GPU detected : rank 0 and rank 1 both on CUDA device 60"
        )

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    monkeypatch.setattr(distributed, "init_process_group", refused)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    with pytest.raises(ConfigurationError, match="2 ranks on this machine, and two of them on one GPU"):
        collectives.init_process_group({"accelerator": "auto", "timeout": 60})
