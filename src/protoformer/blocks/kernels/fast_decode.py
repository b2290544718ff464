"""Matrix products of few rows on the CPU, for decoding one token a sequence at a time.

A decoding step reads all weights once, whatever the number of rows, so with few rows its time is that of reading them. For
`MIN_ROWS` to `MAX_ROWS` rows the CPU library is faster by (W x^T)^T than by x W^T: 76 ms against 98 ms at 16 rows, for the
matrices of GPT-2 small on one thread (benchmarks/results/decoding.md).
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

MIN_ROWS, MAX_ROWS = 5, 48


def linear(
    x: Float[Tensor, "*rows inner"], weight: Float[Tensor, "outer inner"], bias: Float[Tensor, "outer"] | None = None
) -> Float[Tensor, "*rows outer"]:
    """x W^T + b, by the faster of the two products. Without gradients the result may be transposed in memory."""
    # with gradients, other shapes, other devices: the usual product
    if (
        x.ndim != 2
        or not MIN_ROWS <= x.shape[0] <= MAX_ROWS
        or x.device.type != "cpu"
        or x.dtype != torch.float32
        or torch.is_grad_enabled()
    ):
        return functional.linear(x, weight, bias)
    # W x^T streams the rows of W once past a few columns
    transposed = weight @ x.t() if bias is None else torch.addmm(bias[:, None], weight, x.t())
    # a view: (rows, outer), column by column in memory
    return transposed.t()


def apply_linear(layer: nn.Module, x: Float[Tensor, "rows inner"]) -> Float[Tensor, "rows outer"]:
    """`layer(x)`, by `linear` where it is a plain linear layer and not one that was put in its place (quantised, LoRA)."""
    return linear(x, layer.weight, layer.bias) if type(layer) is nn.Linear else layer(x)


def apply_norm(norm: nn.Module, x: Float[Tensor, "rows d_model"]) -> Float[Tensor, "rows d_model"]:
    """`norm(x)`, a plain LayerNorm without the module call around it, which is not free at one row."""
    if type(norm) is not nn.LayerNorm:
        return norm(x)
    return functional.layer_norm(x, norm.normalized_shape, norm.weight, norm.bias, norm.eps)


def defines_decode_step(module: nn.Module) -> bool:
    """Whether the module's own class defines `decode_step`.

    An inherited one does not count: a subclass may change `forward`, and its parent's `decode_step` would leave that out. It
    is decoded by `forward` until it defines, or names, a `decode_step` of its own.
    """
    return "decode_step" in vars(type(module))
