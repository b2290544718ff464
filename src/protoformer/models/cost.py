"""What a pass through a model costs, measured on the meta device: operations and memory without doing either."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from protoformer.blocks.attention import MultiHeadAttention
from protoformer.models.backbone import Backbone


@dataclass(frozen=True)
class Cost:
    """FLOPs count a multiplication and an addition as two; `activations` are the bytes kept for the backward pass."""

    parameters: int
    parameter_bytes: int
    forward_flops: int
    training_flops: int
    activations: int


def cost(module: nn.Module, loss: Callable[[], Tensor]) -> Cost:
    """Of one forward and backward pass of `loss`, which uses `module`; both on the meta device.

    Raises ValueError for a module that holds real tensors, since those would take the memory that is to be foretold.
    """
    parameters = list(module.parameters())
    if any(not p.is_meta for p in parameters):
        raise ValueError("the module is not on the meta device")
    own = {p.untyped_storage()._cdata for p in parameters}
    kept: dict[int, torch.UntypedStorage] = {}  # by storage: views of one tensor are kept once

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            kept[storage._cdata] = storage
        return tensor

    with FlopCounterMode(display=False) as forward, torch.no_grad():  # some losses make their gradients on the way
        loss()
    with FlopCounterMode(display=False) as training:
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            total = loss()
        total.backward()
    return Cost(
        parameters=sum(p.numel() for p in parameters),
        parameter_bytes=sum(p.numel() * p.element_size() for p in parameters),
        forward_flops=forward.get_total_flops(),
        training_flops=training.get_total_flops(),
        activations=sum(storage.nbytes() for storage in kept.values()),
    )


def backbone_flops(backbone: Backbone, lengths: Int[Tensor, "*rows"]) -> Tensor:
    """Forward and backward operations for sequences of these lengths, estimated: 6 a weight of the stack and token, and 12 a
    layer of attention, dimension and pair of tokens (arXiv 2204.02311, appendix B). Embeddings are looked up for nothing."""
    attentions = sum(isinstance(part, MultiHeadAttention) for part in backbone.stack.modules())
    weights = sum(p.numel() for p in backbone.stack.parameters())
    real = lengths.double()
    return 6.0 * weights * real.sum() + 12.0 * attentions * backbone.d_model * (real**2).sum()
