"""Measurements of a layer: FLOPs, processor time and memory of a pass, and the longest path between two positions."""

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
from protoformer.complexity.layer_types import RECURRENT, LayerSizes, LayerType
from protoformer.models.cost import SavedTensors

MAX_COUNTED_STEPS = 8  # positions over which a recurrence's FLOPs are counted


class Measurement(NamedTuple):
    """Costs of one layer and sequence.

    FLOPs of the forward pass (a multiplication and an addition are two), with and without the projections of single positions;
    seconds of processor time, forward and backward; bytes saved for backward, without weights and input.
    """

    flops: int
    flops_without_projections: int
    seconds: float
    saved_bytes: int


def measure_layer(
    layer_type: LayerType, sizes: LayerSizes, *, batch: int = 2, min_seconds: float = 0.1, repeats: int = 3
) -> Measurement:
    """The fastest of at least `repeats` passes, which take at least `min_seconds` together; costs are those of one sequence.

    Time is the process's own, over all its threads, so that other processes on the machine have little influence.
    """
    flops = count_flops(layer_type, sizes)
    layer = layer_type.layer(sizes, 0, False)
    layout = PackedLayout(torch.ones(batch, sizes.n, dtype=torch.bool))
    x = torch.randn(batch * sizes.n, sizes.d, requires_grad=True)
    saved = SavedTensors([*layer.parameters(), x])
    with saved.recorded():
        layer(x, layout)
    durations: list[float] = []
    while len(durations) < repeats or sum(durations) < min_seconds:
        start = time.process_time()
        layer(x, layout).sum().backward()
        durations.append(time.process_time() - start)
    return Measurement(flops, flops - layer_type.projections(sizes), min(durations) / batch, saved.nbytes // batch)


def count_flops(layer_type: LayerType, sizes: LayerSizes) -> int:
    """FLOPs of one sequence's forward pass, by torch's counter.

    Recurrences are counted on the meta device, where they are decomposed into matrix products (on the CPU they are one library
    call, which the counter does not look into), over a few positions, since all positions cost the same.
    """
    if layer_type is RECURRENT and sizes.n > MAX_COUNTED_STEPS:
        return count_flops(layer_type, sizes._replace(n=MAX_COUNTED_STEPS)) * sizes.n // MAX_COUNTED_STEPS
    meta = layer_type is RECURRENT
    with torch.device("meta" if meta else "cpu"), torch.no_grad():
        layer = layer_type.layer(sizes, 0, False)
        layout = PaddedLayout(1, sizes.n) if meta else PackedLayout(torch.ones(1, sizes.n, dtype=torch.bool))
        x = layout.pack(torch.zeros(1, sizes.n, sizes.d))
        with FlopCounterMode(display=False) as counter:
            layer(x, layout)
    return counter.get_total_flops()


def longest_path(layer_type: LayerType, n: int, k: int = 3, r: int = 33, d: int = 8) -> int:
    """The number of operations until the output at position n - 1 depends on the input at position 0, by its gradient.

    An operation is a causal layer; of a recurrence it is one step of its cell at all positions at once, each from its own
    input and its left neighbour's state after the previous step. Raises RuntimeError where n operations do not suffice.
    """
    torch.manual_seed(0)
    sizes = LayerSizes(n, d, k, r)
    x = torch.randn(n, d, dtype=torch.double, requires_grad=True)
    outputs = _cell_steps(layer_type, sizes, x) if layer_type is RECURRENT else _stacked_layers(layer_type, sizes, x)
    for count, output in enumerate(outputs, start=1):
        (gradient,) = torch.autograd.grad(output[-1].sum(), x, retain_graph=True)
        if gradient[0].any():
            return count
        if count > n:
            raise RuntimeError(
                f"{layer_type.name}: position {n - 1} does not depend on position 0 after {count} operations"
            )
    raise AssertionError("the iterator of operations is infinite")


def _stacked_layers(
    layer_type: LayerType, sizes: LayerSizes, x: Float[Tensor, "n d"]
) -> Iterator[Float[Tensor, "n d"]]:
    """The output of each layer of an infinite stack."""
    layout = PackedLayout(torch.ones(1, sizes.n, dtype=torch.bool))
    index = 0
    while True:
        x = layer_type.layer(sizes, index, True).double()(x, layout)
        yield x
        index += 1


def _cell_steps(layer_type: LayerType, sizes: LayerSizes, x: Float[Tensor, "n d"]) -> Iterator[Float[Tensor, "n d"]]:
    """The hidden states after each step of an LSTM's cell at all positions at once."""
    layer = layer_type.layer(sizes, 0, False)
    assert isinstance(layer, UnidirectionalRNN)
    cell = nn.LSTMCell(sizes.d, sizes.d)
    cell.load_state_dict({name.removesuffix("_l0"): weight for name, weight in layer.recurrence.state_dict().items()})
    cell = cell.double()
    h = c = torch.zeros(sizes.n, sizes.d, dtype=torch.double)
    while True:
        # each position gets its left neighbour's state, the first one zeros
        left_h, left_c = (functional.pad(state[:-1], (0, 0, 1, 0)) for state in (h, c))
        h, c = cell(x, (left_h, left_c))
        yield h
