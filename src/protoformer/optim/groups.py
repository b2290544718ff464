"""Parameter groups for weight decay: matrices decay, biases and normalisation gains do not (arXiv 1810.04805, appendix A.2,
and its code)."""

from collections.abc import Iterable, Mapping

from torch import nn


def layer_groups(
    parameters: Iterable[nn.Parameter], weight_decay: float, lr: float, factors: Mapping[nn.Parameter, float]
) -> list[dict[str, object]]:
    """The groups of `decay_groups` for each factor of the learning rate, those of the highest rate first."""
    of_factor: dict[float, list[nn.Parameter]] = {}
    for parameter in parameters:
        of_factor.setdefault(factors[parameter], []).append(parameter)
    return [
        {**group, "lr": factor * lr}
        for factor, chosen in sorted(of_factor.items(), reverse=True)
        for group in decay_groups(chosen, weight_decay)
        if group["params"]
    ]


def decay_groups(parameters: Iterable[nn.Parameter], weight_decay: float) -> list[dict[str, object]]:
    """Two optimizer groups: tensors of two or more dimensions, which decay, and the rest. Frozen parameters are in neither."""
    trainable = [p for p in parameters if p.requires_grad]
    return [
        {"params": [p for p in trainable if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in trainable if p.ndim < 2], "weight_decay": 0.0},
    ]
