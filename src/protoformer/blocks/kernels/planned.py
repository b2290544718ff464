"""Kernels by device. Tensors of the meta device, which have no memory, take those of the device that they stand for, so that
what a step allocates can be found without allocating it (`planning.step_memory`)."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

_stands_for = ["meta"]


@contextmanager
def meta_stands_for(device: str) -> Iterator[None]:
    """Within the block tensors of the meta device take the kernels of `device` (`cpu` or `cuda`)."""
    _stands_for.append(device)
    try:
        yield
    finally:
        _stands_for.pop()


def kernels_of(tensor: Tensor) -> str:
    """The type of the device whose kernels compute with a tensor."""
    device = tensor.device.type
    return device if device != "meta" else _stands_for[-1]


def fused_attention(
    q: Float[Tensor, "batch heads queries d_key"],
    k: Float[Tensor, "batch heads keys d_key"],
    v: Float[Tensor, "batch heads keys d_head"],
    allowed: Bool[Tensor, "*#batch #queries keys"] | None,
    dropout: float,
    is_causal: bool = False,
) -> Float[Tensor, "batch heads queries d_head"]:
    """Torch's fused attention. On the meta device torch would write the formula out, with (queries, keys) tensors that no GPU
    holds."""
    if not q.is_meta or kernels_of(q) != "cuda":
        return functional.scaled_dot_product_attention(
            q, k, v, attn_mask=allowed, dropout_p=dropout, is_causal=is_causal
        )
    bias = None if allowed is None else q.new_empty(()).expand(*q.shape[:3], k.shape[2])
    context: Tensor = torch.ops.aten._scaled_dot_product_efficient_attention(
        q, k, v, bias, True, dropout, is_causal=is_causal
    )[0]
    return context
