"""Importance of attention heads: what a task's loss would do without them, by its gradient (Michel et al. 2019, arXiv
1905.10650, section 4.1), and the mean of what they give, for ablations that keep it.

I_h = E_x |c_h(x) . dL/dc_h(x)|, the expected change of the loss of an example x to first order, where c_h(x) are the outputs of
head h at all tokens of x. As there, the importances of a layer are divided by their norm, so that layers can be compared.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor, nn

from protoformer.interventions.heads import Head, HeadOutputs
from protoformer.modules.task_module import TaskModule


@contextmanager
def packed(model: nn.Module) -> Iterator[None]:
    """Within the block the model computes real tokens alone, so that what its layers read holds no padding."""
    before = getattr(model, "packing", None)
    model.packing = "on"  # type: ignore[assignment]  # of a Backbone or an EncoderDecoder
    try:
        yield
    finally:
        model.packing = before  # type: ignore[assignment]


def head_importance(module: TaskModule, examples: Iterable[Mapping[str, Tensor]]) -> dict[Head, float]:
    """Importance of each head. `examples` are batches of one example."""
    totals: dict[Head, float] = defaultdict(float)
    with packed(module.backbone), HeadOutputs(module.backbone) as outputs, torch.enable_grad():
        for batch in examples:
            module.zero_grad(set_to_none=True)
            module.loss(batch).total.backward()
            for head, context, grad in outputs.of_heads():
                assert grad is not None
                totals[head] += abs(float((context.detach() * grad).sum()))
    module.zero_grad(set_to_none=True)
    return _by_norm_of_layer(totals)


def _by_norm_of_layer(totals: Mapping[Head, float]) -> dict[Head, float]:
    squares: dict[tuple[str, int], float] = defaultdict(float)
    for head, total in totals.items():
        squares[head.part, head.layer] += total**2
    return {head: total / (squares[head.part, head.layer] ** 0.5 or 1.0) for head, total in totals.items()}


def mean_outputs(module: TaskModule, batches: Iterable[Mapping[str, Tensor]]) -> dict[Head, Float[Tensor, "d_head"]]:
    """The mean of each head's outputs over all tokens of `batches`, without dropout."""
    sums: dict[Head, Tensor] = {}
    tokens: dict[Head, int] = defaultdict(int)
    with packed(module.backbone), HeadOutputs(module.backbone) as outputs, torch.no_grad():
        for batch in batches:
            module.loss(batch)
            for head, context, _ in outputs.of_heads():
                sums[head] = (
                    sums.get(head, torch.zeros(context.shape[-1], dtype=torch.float64)) + context.double().sum(0).cpu()
                )
                tokens[head] += len(context)
    return {head: (total / tokens[head]).float() for head, total in sums.items()}
