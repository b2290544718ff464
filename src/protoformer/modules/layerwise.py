"""Layers by their depth: learning rates that fall from the head down, and top layers that are drawn anew.

Rates fall by a constant factor a layer, as in *How to Fine-Tune BERT for Text Classification?* (arXiv 1905.05583) and in arXiv
2003.10555. Layers are drawn anew as in *Revisiting Few-sample BERT Fine-tuning* (arXiv 2006.05987, section 5).

Differs: in the first the last layer learns at the full rate, in the second's code at the square of the factor; here the head
alone learns at the full rate, and the last layer at the factor times the rate.
"""

from collections.abc import Iterable

from torch import nn

from protoformer.blocks.stacks import DecoderStack, EncoderStack
from protoformer.errors import ConfigurationError

EMBEDDINGS = ("embeddings.", "target_embeddings.")
POOLER = "pooler."


def stacks_of(backbone: nn.Module) -> dict[str, list[nn.Module]]:
    """Name of each stack of layers -> its layers, from the lowest."""
    return {
        name: list(stack.layers)  # type: ignore[arg-type]  # a ModuleList, typed by what its layers can do
        for name, stack in backbone.named_modules()
        if isinstance(stack, EncoderStack | DecoderStack)
    }


def lr_factors(backbone: nn.Module, parameters: Iterable[nn.Parameter], decay: float) -> dict[nn.Parameter, float]:
    """Factor of the learning rate of each parameter: 1 of all above the layers (head, pooler, final normalisation), `decay` of
    the last layer of a stack, `decay ** n` of the first of n, and one power more of the embeddings, also where they are the
    output matrix.

    Raises ConfigurationError for a model without layers.
    """
    stacks = stacks_of(backbone)
    if not stacks:
        raise ConfigurationError(f"recipe.layerwise_lr_decay={decay}: the model has no layers of this kind")
    lowest = decay ** (1 + max(map(len, stacks.values())))
    factors = {p: lowest for name, p in backbone.named_parameters() if name.startswith(EMBEDDINGS)}
    for layers in stacks.values():
        for depth, layer in enumerate(reversed(layers), start=1):
            factors |= {p: decay**depth for p in layer.parameters() if p not in factors}
    return {p: factors.get(p, 1.0) for p in parameters}


def top_layers(backbone: nn.Module, number: int) -> list[str]:
    """Prefixes of the parameters of the last `number` layers of each stack, and of the pooler.

    Raises ConfigurationError for a model with fewer layers.
    """
    stacks = stacks_of(backbone)
    if not stacks or number > min(map(len, stacks.values())):
        described = ", ".join(f"{name}: {len(layers)}" for name, layers in stacks.items()) or "none"
        raise ConfigurationError(f"recipe.reinit_layers={number}: the model has fewer layers ({described})")
    last = [
        f"{name}.layers.{index}."
        for name, layers in stacks.items()
        for index in range(len(layers) - number, len(layers))
    ]
    return [*last, POOLER]
