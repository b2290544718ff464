"""What a pass through a model costs, measured on the meta device: operations and memory without doing either."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
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


class SavedTensors:
    """The memory that autograd saves for the backward pass, apart from tensors that exist anyway (parameters, inputs).

    Storages are counted once, however many views of them are saved.
    """

    def __init__(self, excluded: Iterable[Tensor]) -> None:
        self._excluded = {tensor.untyped_storage()._cdata for tensor in excluded}
        self._storages: dict[int, torch.UntypedStorage] = {}

    @contextmanager
    def recorded(self) -> Iterator[None]:
        """Record what forward passes within this context save."""
        with torch.autograd.graph.saved_tensors_hooks(self._record, lambda tensor: tensor):
            yield

    def _record(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in self._excluded:
            self._storages[storage._cdata] = storage
        return tensor

    @property
    def nbytes(self) -> int:
        return sum(storage.nbytes() for storage in self._storages.values())


def cost(module: nn.Module, loss: Callable[[], Tensor]) -> Cost:
    """Of one forward and backward pass of `loss`, which uses `module`; both on the meta device.

    Raises ValueError for a module that holds real tensors, since those would take the memory that is to be foretold.
    """
    parameters = list(module.parameters())
    if any(not p.is_meta for p in parameters):
        raise ValueError("the module is not on the meta device")
    saved = SavedTensors(parameters)
    with FlopCounterMode(display=False) as forward, torch.no_grad():  # some losses make their gradients on the way
        loss()
    with FlopCounterMode(display=False) as training:
        with saved.recorded():
            total = loss()
        total.backward()
    return Cost(
        parameters=sum(p.numel() for p in parameters),
        parameter_bytes=sum(p.numel() * p.element_size() for p in parameters),
        forward_flops=forward.get_total_flops(),
        training_flops=training.get_total_flops(),
        activations=saved.nbytes,
    )


def backbone_flops(backbone: Backbone, lengths: Int[Tensor, "*rows"]) -> Tensor:
    """Forward and backward operations for sequences of these lengths, estimated: 6 a weight of the stack and token, and 12 a
    layer of attention, dimension and pair of tokens (arXiv 2204.02311, appendix B). Embeddings are looked up for nothing."""
    attentions = sum(isinstance(part, MultiHeadAttention) for part in backbone.stack.modules())
    weights = sum(p.numel() for p in backbone.stack.parameters())
    real = lengths.double()
    return 6.0 * weights * real.sum() + 12.0 * attentions * backbone.d_model * (real**2).sum()
