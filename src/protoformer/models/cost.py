"""The cost of a training step: FLOPs and memory of a module, measured on the meta device, and an estimate for a batch."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from protoformer.blocks.attention import MultiHeadAttention
from protoformer.blocks.kernels.packing import SequenceLengths
from protoformer.models.backbone import Backbone


@dataclass(frozen=True)
class Cost:
    """Counts of one forward and backward pass; a multiplication and an addition are two FLOPs."""

    parameters: int
    parameter_bytes: int
    trained_bytes: int  # of the parameters that are not frozen
    buffer_bytes: int
    forward_flops: int
    training_flops: int


class SavedTensors:
    """The memory that autograd saves for the backward pass, apart from tensors that exist anyway (parameters, inputs).

    Storages are counted once, however many views of them are saved.
    """

    def __init__(self, excluded: Iterable[Tensor]) -> None:
        # tensors on the meta device have no address: a storage is known by its C++ object
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
    """The cost of one forward and backward pass of `loss`, which uses `module`; both on the meta device.

    Raises ValueError for a module that holds real tensors, which would take the memory that is to be predicted.
    """
    parameters = list(module.parameters())
    if any(not p.is_meta for p in parameters):
        raise ValueError("the module is not on the meta device")
    # without gradients, as some losses would compute them in their forward pass
    with FlopCounterMode(display=False) as forward, torch.no_grad():
        loss()
    with FlopCounterMode(display=False) as training:
        loss().backward()
    return Cost(
        parameters=sum(p.numel() for p in parameters),
        parameter_bytes=sum(p.numel() * p.element_size() for p in parameters),
        trained_bytes=sum(p.numel() * p.element_size() for p in parameters if p.requires_grad),
        buffer_bytes=sum(b.numel() * b.element_size() for b in module.buffers()),
        forward_flops=forward.get_total_flops(),
        training_flops=training.get_total_flops(),
    )


def row_lengths(lengths: SequenceLengths | None, padding_mask: Bool[Tensor, "*rows seq"]) -> Float[Tensor, "rows"]:
    """Lengths in float64: on the host where it knows them, else from the mask, on its device and without waiting for it."""
    return padding_mask.flatten(0, -2).sum(-1).double() if lengths is None else lengths.as_tensor()


_coefficients: WeakKeyDictionary[Backbone, tuple[float, float]] = WeakKeyDictionary()


def backbone_flops(backbone: Backbone, lengths: Int[Tensor, "*rows"] | Float[Tensor, "*rows"]) -> Tensor:
    """FLOPs of a training step on sequences of these lengths (tokens), estimated.

    6 per weight of the stack and token, and 12 per attention layer, dimension and pair of tokens (arXiv 2204.02311, appendix
    B). Embedding look-ups count as nothing.
    """
    if backbone not in _coefficients:  # walking over all parameters costs more than the rest: done once a model
        attentions = sum(isinstance(module, MultiHeadAttention) for module in backbone.stack.modules())
        weights = sum(p.numel() for p in backbone.stack.parameters())
        _coefficients[backbone] = (6.0 * weights, 12.0 * attentions * backbone.d_model)
    per_token, per_pair = _coefficients[backbone]
    real = lengths.double()
    return per_token * real.sum() + per_pair * (real**2).sum()
