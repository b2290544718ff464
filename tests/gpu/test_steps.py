"""Training steps on a GPU: the numbers of the CPU, and no wait for the device."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from protoformer.blocks.attention import MultiHeadAttention
from protoformer.blocks.baselines.recurrent import UnidirectionalRNN
from protoformer.blocks.kernels.packing import PaddedLayout
from protoformer.data.batching.host_counts import host_counts
from protoformer.distributed.backends import configure_backends
from protoformer.modules.task_module import TaskModule

from ..modules.test_no_waiting import causal_lm, classes, masked_lm, span, translation

pytestmark = pytest.mark.gpu
KINDS = (causal_lm, masked_lm, classes, span, translation)
TOLERANCE = {None: 1e-4, torch.bfloat16: 3e-2, torch.float16: 3e-2}


@pytest.fixture(autouse=True)
def switches() -> None:
    configure_backends("fp32", "gpu")


@pytest.fixture
def waiting_is_an_error() -> Iterator[None]:
    yield
    torch.cuda.set_sync_debug_mode("default")


def on_gpu(module: TaskModule[Any, Any], batch: dict[str, Any]) -> tuple[TaskModule[Any, Any], dict[str, Any]]:
    moved = {name: value.to("cuda") if isinstance(value, Tensor) else value for name, value in batch.items()}
    return module.to("cuda"), moved | host_counts(batch)


@pytest.mark.parametrize("packing", ["auto", "off"])
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("kind", KINDS)
def test_losses_and_gradients_are_those_of_the_cpu(kind: Any, dtype: torch.dtype | None, packing: str) -> None:
    torch.manual_seed(0)
    module, batch = kind(packing)
    expected = module.loss(batch).total
    expected.backward()
    gradients = {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}
    module.zero_grad()
    module, batch = on_gpu(module, batch)
    with torch.autocast("cuda", dtype=dtype or torch.bfloat16, enabled=dtype is not None):
        actual = module.loss(batch).total
    actual.backward()
    tolerance = TOLERANCE[dtype]
    assert float(actual) == pytest.approx(float(expected), rel=tolerance)
    # as one vector: of some parameters (biases of keys) the gradient is rounding alone
    whole, ours = (
        torch.cat([each[name].flatten() for name in gradients])
        for each in (gradients, {name: p.grad.cpu() for name, p in module.named_parameters() if p.grad is not None})
    )
    assert float((ours - whole).norm() / whole.norm()) < 3 * tolerance


@pytest.mark.parametrize("packing", ["auto", "off"])
@pytest.mark.parametrize("kind", KINDS)
def test_forward_and_backward_never_wait(kind: Any, packing: str, waiting_is_an_error: None) -> None:
    module, batch = on_gpu(*kind(packing))
    module.loss(batch).total.backward()  # libraries are loaded
    torch.cuda.set_sync_debug_mode("error")
    with torch.autocast("cuda", dtype=torch.bfloat16):
        loss = module.loss(batch).total
        module.flops(batch)
    loss.backward()


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_recurrences_under_autocast_are_float32(cell: Any) -> None:
    layer, x = UnidirectionalRNN(8, cell).to("cuda"), torch.randn(2, 3, 8, device="cuda")
    with torch.autocast("cuda", dtype=torch.bfloat16):
        out = layer(x, PaddedLayout(2, 3))
    assert out.dtype == torch.float32
    torch.testing.assert_close(out, layer(x, PaddedLayout(2, 3)))


def test_padding_that_may_see_nothing_gives_no_nan() -> None:
    attention = MultiHeadAttention(16, 2, causal=True).to("cuda")
    x = torch.randn(2, 5, 16, device="cuda", requires_grad=True)
    mask = torch.tensor([[True] * 5, [False, False, True, True, True]], device="cuda")  # padded on the left
    with torch.autocast("cuda", dtype=torch.bfloat16):
        out, _ = attention(x, PaddedLayout(2, 5, mask))
    out[mask].float().sum().backward()
    assert torch.isfinite(out).all()
    assert x.grad is not None
    assert torch.isfinite(x.grad).all()


def test_cudnn_attention_is_off_and_float32_is_float32() -> None:
    assert not torch.backends.cuda.cudnn_sdp_enabled()
    assert not torch.backends.cudnn.allow_tf32
    a = torch.randn(256, 256, device="cuda")
    torch.testing.assert_close((a @ a).cpu(), a.cpu() @ a.cpu(), rtol=1e-4, atol=1e-3)
