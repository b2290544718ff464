"""Counting and measuring a layer: FLOPs, processor time and memory of a pass, and the longest path by its gradients."""

import time
from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from protoformer.blocks.baselines.recurrent import UnidirectionalRNN
from protoformer.blocks.kernels.packing import PackedLayout, PaddedLayout
from protoformer.complexity.kinds import RECURRENT, Kind, Sizes

FEW = 8  # positions


class Measured(NamedTuple):
    """Of one layer and sequence: FLOPs forward (a multiplication and an addition are two) with the projections and without;
    seconds of processor time forward and backward; bytes kept for backward, beside the weights."""

    flops: int
    flops_without_projections: int
    seconds: float
    kept: int


def measured(kind: Kind, sizes: Sizes, *, batch: int = 2, least: float = 0.1, repeats: int = 3) -> Measured:
    """The quickest of `repeats` passes or more, until `least` seconds have gone by; each number is that of one sequence.

    Seconds are the process's own on all its threads, so that other work on the machine counts as little as can be.
    """
    flops = counted(kind, sizes)
    layer = kind.layer(sizes, 0, False)
    layout = PackedLayout(torch.ones(batch, sizes.n, dtype=torch.bool))
    x = torch.randn(batch * sizes.n, sizes.d, requires_grad=True)
    kept = _kept(layer, x, layout)
    spent: list[float] = []
    while len(spent) < repeats or sum(spent) < least:
        begun = time.process_time()
        layer(x, layout).sum().backward()
        spent.append(time.process_time() - begun)
    return Measured(flops, flops - kind.projections(sizes), min(spent) / batch, kept // batch)


def counted(kind: Kind, sizes: Sizes) -> int:
    """FLOPs of one sequence, forward, by torch's own counter.

    Recurrences are counted on the meta device, where they fall into their products (on the CPU they are one call of a library
    that the counter does not look into), over a few positions, since all of them cost the same.
    """
    if kind is RECURRENT and sizes.n > FEW:
        return counted(kind, sizes._replace(n=FEW)) * sizes.n // FEW
    meta = kind is RECURRENT
    with torch.device("meta" if meta else "cpu"), torch.no_grad():
        layer = kind.layer(sizes, 0, False)
        layout = PaddedLayout(1, sizes.n) if meta else PackedLayout(torch.ones(1, sizes.n, dtype=torch.bool))
        x = layout.pack(torch.zeros(1, sizes.n, sizes.d))
        with FlopCounterMode(display=False) as counter:
            layer(x, layout)
    return counter.get_total_flops()


def _kept(layer: nn.Module, x: Tensor, layout: PackedLayout) -> int:
    """Bytes of what a forward pass keeps, each storage once, weights and input apart."""
    own = {part.untyped_storage()._cdata for part in (*layer.parameters(), x)}
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            kept[storage._cdata] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        out = layer(x, layout)
    del out
    return sum(storage.nbytes() for storage in kept.values())


def longest_path(kind: Kind, n: int, k: int = 3, r: int = 33, d: int = 8) -> int:
    """How many operations, each on all positions at once, until the last position's output has a gradient by the first input.

    An operation is a causal layer; of a recurrence it is one step of its cell, at each position from its own input and what its
    left neighbour held after the step before.
    """
    torch.manual_seed(0)
    sizes = Sizes(n, d, k, r)
    x = torch.randn(n, d, dtype=torch.double, requires_grad=True)
    states = _sweeps(kind, sizes, x) if kind is RECURRENT else _layers(kind, sizes, x)
    for number, state in enumerate(states, start=1):
        (gradient,) = torch.autograd.grad(state[-1].sum(), x, retain_graph=True)
        if gradient[0].any():
            return number
        if number > n:
            raise RuntimeError(f"{kind.name}: position {n - 1} sees nothing of position 0 after {number} operations")
    raise AssertionError("operations do not end")


def _layers(kind: Kind, sizes: Sizes, x: Float[Tensor, "n d"]) -> Iterator[Tensor]:
    """What stands after each layer of a stack without end."""
    layout = PackedLayout(torch.ones(1, sizes.n, dtype=torch.bool))
    number = 0
    while True:
        x = kind.layer(sizes, number, True).double()(x, layout)
        yield x
        number += 1


def _sweeps(kind: Kind, sizes: Sizes, x: Float[Tensor, "n d"]) -> Iterator[Tensor]:
    """What stands after each step of an LSTM's cell, all positions at once."""
    layer = kind.layer(sizes, 0, False)
    assert isinstance(layer, UnidirectionalRNN)
    cell = nn.LSTMCell(sizes.d, sizes.d)
    cell.load_state_dict({name.removesuffix("_l0"): weight for name, weight in layer.recurrence.state_dict().items()})
    cell = cell.double()
    h = c = torch.zeros(sizes.n, sizes.d, dtype=torch.double)
    while True:
        from_left = tuple(functional.pad(part[:-1], (0, 0, 1, 0)) for part in (h, c))
        h, c = cell(x, from_left)
        yield h
