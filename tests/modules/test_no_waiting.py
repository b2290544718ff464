"""A training step does not wait for the device: no operation whose result the host must read, where the loader has counted.

Counted on the CPU, with attention on its way for GPUs.
"""

from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from protoformer.blocks import attention
from protoformer.blocks.kernels import linear_cross_entropy as fused
from protoformer.blocks.kernels.packed_attention import attend_unpacked
from protoformer.data.batching.host_counts import host_counts
from protoformer.models.bert import bert
from protoformer.models.gpt import gpt
from protoformer.models.transformer import transformer
from protoformer.modules.kinds.classification import ClassificationModule
from protoformer.modules.kinds.language_modeling import LanguageModule
from protoformer.modules.kinds.pretraining import PretrainingModule
from protoformer.modules.kinds.span import SpanModule
from protoformer.modules.kinds.translation import TranslationModule
from protoformer.modules.task_module import TaskModule

READS = {"_local_scalar_dense", "nonzero", "masked_select", "equal", "_unique2", "is_nonzero", "bincount"}
SIZES = {"vocab_size": 40, "d_model": 16, "n_layers": 2, "n_heads": 2, "d_ff": 32}
SPLITS: dict[str, Any] = {"splits": {"val": [""], "test": [""]}}
LENGTHS = torch.tensor([7, 3, 5, 6])
MASK = torch.arange(7)[None] < LENGTHS[:, None]


class Reads(TorchDispatchMode):
    """Counts operations for which a GPU is waited for."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._schema.name.removeprefix("aten::")
        by_mask = name.startswith("index") and any(
            isinstance(index, Tensor) and index.dtype == torch.bool for index in (args[1] if len(args) > 1 else ()) or ()
        ) if name in ("index", "index_put", "index_put_") else False  # fmt: skip
        if name in READS or by_mask:
            self.counts[name] += 1
        return func(*args, **(kwargs or {}))


def text() -> dict[str, Tensor]:
    ids = torch.randint(1, 40, MASK.shape, generator=torch.Generator().manual_seed(0)) * MASK
    return {
        "ids": ids,
        "padding_mask": MASK,
        "segment_ids": torch.zeros_like(ids),
        "pooler_position": LENGTHS - 1,
        "example_ids": torch.tensor([0, 1, 2, -1]),
    }


def targets() -> Tensor:
    wanted = torch.where(MASK, text()["ids"], -1)
    wanted[-1] = -1
    return wanted


def causal_lm(packing: Any) -> tuple[TaskModule[Any, Any], dict[str, Tensor]]:
    kept = ("ids", "padding_mask", "example_ids")
    batch = {name: value for name, value in text().items() if name in kept} | {"target_ids": targets()}
    return LanguageModule(backbone=gpt(**SIZES, dropout=0.0, packing=packing), **SPLITS), batch


def masked_lm(packing: Any) -> tuple[TaskModule[Any, Any], dict[str, Tensor]]:
    position = torch.stack([torch.zeros(4, dtype=torch.long), LENGTHS - 1], 1)
    wanted = text()["ids"].gather(1, position)
    wanted[-1] = -1
    counts = torch.tensor([6, 3])
    batch = text() | {"target_position": position, "target_ids": wanted, "next_sentence": torch.tensor([0, 1, 0, -1])}
    return PretrainingModule(backbone=bert(**SIZES, dropout=0.0, packing=packing), **SPLITS), batch | {
        "targets": counts
    }


def classes(packing: Any) -> tuple[TaskModule[Any, Any], dict[str, Tensor]]:
    rows = {name: value[:, None] for name, value in text().items() if name != "example_ids"}
    batch = {**rows, "example_ids": text()["example_ids"], "labels": torch.tensor([0, 1, 1, 0])}
    backbone = gpt(**SIZES, dropout=0.0, packing=packing)
    module = ClassificationModule(
        backbone=backbone, labels=["a", "b"], metrics=["accuracy"], aux_lm_weight=0.5, **SPLITS
    )
    return module, batch


def span(packing: Any) -> tuple[TaskModule[Any, Any], dict[str, Tensor]]:
    first = torch.zeros(4, dtype=torch.long)
    batch = text() | {"context_mask": MASK, "max_context_mask": MASK, "null_position": first}
    module = SpanModule(backbone=bert(**SIZES, dropout=0.0, packing=packing), **SPLITS)
    return module, batch | {"start_position": first + 1, "end_position": first + 2}


def translation(packing: Any) -> tuple[TaskModule[Any, Any], dict[str, Tensor]]:
    batch = {name: text()[name] for name in ("ids", "padding_mask", "example_ids")}
    batch |= {"decoder_ids": text()["ids"], "decoder_mask": MASK, "target_ids": targets()}
    return TranslationModule(
        backbone=transformer(**SIZES, dropout=0.0, packing=packing), label_smoothing=0.1, **SPLITS
    ), batch


@pytest.mark.parametrize("packing", ["auto", "off"])
@pytest.mark.parametrize("kind", [causal_lm, masked_lm, classes, span, translation])
def test_the_forward_pass_reads_nothing(kind: Any, packing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "attend_packed", attend_unpacked)
    torch.manual_seed(0)
    module, batch = kind(packing)
    module.eval()
    expected = module.loss(batch)
    counted = batch | host_counts(batch)
    with Reads() as reads:
        actual = module.loss(counted)
        flops = module.flops(counted)
    assert not reads.counts
    torch.testing.assert_close(actual.total, expected.total)
    assert float(actual.targets) == float(expected.targets)
    torch.testing.assert_close(flops, module.flops(batch))


def test_the_fused_loss_takes_the_scale_of_its_gradient_from_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    hidden, weight = torch.randn(6, 8, requires_grad=True), torch.randn(11, 8, requires_grad=True)
    wanted = torch.arange(6)

    def gradients() -> tuple[Tensor, ...]:
        return torch.autograd.grad(fused.linear_cross_entropy(hidden, weight, wanted).sum() * 3.0, (hidden, weight))

    expected = gradients()
    monkeypatch.setattr(fused, "_common_factor", lambda grad: grad[0])  # as on a GPU
    with Reads() as reads:
        actual = gradients()
    assert not reads.counts
    torch.testing.assert_close(actual, expected)
