"""Attention heads by name, and models without some of them (Michel et al. 2019, arXiv 1905.10650, section 2.3).

The output of multi-head attention is a sum over heads, x = b + sum_h W^O_h c_h, where c_h is what head h has gathered for a
token. A head is left out by W^O_h = 0: with `zero` its term is gone, with `mean` it is replaced by W^O_h times the mean of c_h
over the tokens of a data set, which is added to b, so that only what varies between tokens is lost.

Differs: Michel et al. multiply c_h by a mask of zeros, which gives the same output; weights are changed here, so that every way
of computing the model (packed, cached, compiled) is without the head.
"""

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from protoformer.blocks.attention import MultiHeadAttention
from protoformer.errors import ConfigurationError

SPELLING = re.compile(r"(?:(encoder|decoder|cross)[ :])?(\d+)-(\d+)")


@dataclass(frozen=True, order=True)
class Head:
    """Head `number` of layer `layer`, both from 1. `part` of an encoder-decoder: encoder, decoder, or cross for the decoder's
    attention to the encoder; empty for a single stack."""

    part: str
    layer: int
    number: int

    def __str__(self) -> str:
        return f"{self.part}:{self.layer}-{self.number}" if self.part else f"{self.layer}-{self.number}"


def attention_of(model: nn.Module) -> dict[tuple[str, int], MultiHeadAttention]:
    """(part, layer from 1) -> the attention of that layer, in order; layers of another kind have none."""
    modules = {}
    for name, module in model.named_modules():
        if isinstance(module, MultiHeadAttention):
            layer = int(name.split("layers.")[1].split(".")[0]) + 1
            stack = name.split(".")[0]
            modules["" if stack == "stack" else "cross" if module.cross else stack, layer] = module
    return dict(
        sorted(modules.items(), key=lambda item: (("", "encoder", "decoder", "cross").index(item[0][0]), item[0][1]))
    )


def heads_of(model: nn.Module) -> list[Head]:
    """All heads of a model, layer by layer."""
    return [
        Head(part, layer, number)
        for (part, layer), attention in attention_of(model).items()
        for number in range(1, attention.n_heads + 1)
    ]


def parse_heads(texts: Iterable[str], model: nn.Module) -> list[Head]:
    """Heads by their names, such as 3-9, or cross:2-1 of an encoder-decoder. Raises ConfigurationError for those it lacks."""
    known = heads_of(model)
    heads = []
    for text in texts:
        match = SPELLING.fullmatch(text)
        head = Head(match[1] or "", int(match[2]), int(match[3])) if match else None
        if head not in known:
            example = f"{known[0]} to {known[-1]}" if known else "none: no layer has attention in heads"
            raise ConfigurationError(
                f"--heads {text}: the model has no such head (LAYER-HEAD, from 1; it has {example})"
            )
        heads.append(head)
    return list(dict.fromkeys(heads))


@contextmanager
def ablated(
    model: nn.Module, heads: Collection[Head], means: Mapping[Head, Float[Tensor, "d_head"]] | None = None
) -> Iterator[None]:
    """Within the block the model is without `heads`: their outputs are zero, or with `means` those. Weights are then the same
    again, to the bit."""
    modules = attention_of(model)
    touched = {(head.part, head.layer) for head in heads}
    before = {key: modules[key].output.weight.detach().clone() for key in touched}
    biases = {key: modules[key].output.bias.detach().clone() for key in touched}
    try:
        with torch.no_grad():
            for head in heads:
                attention = modules[head.part, head.layer]
                # columns of W^O that read this head: (d_model, d_head)
                columns = attention.output.weight[:, _columns(attention, head)]
                if means is not None:
                    attention.output.bias += columns @ means[head].to(columns)
                columns.zero_()
        yield
    finally:
        with torch.no_grad():
            for key in touched:
                modules[key].output.weight.copy_(before[key])
                modules[key].output.bias.copy_(biases[key])


def _columns(attention: MultiHeadAttention, head: Head) -> slice:
    return slice((head.number - 1) * attention.d_head, head.number * attention.d_head)


class HeadOutputs:
    """What heads give to W^O: within the block `with HeadOutputs(model) as outputs:` each pass of the model leaves
    `outputs.last[part, layer]`, `(*tokens, heads * d_head)`, with its gradient after a backward pass."""

    def __init__(self, model: nn.Module) -> None:
        self.modules = attention_of(model)
        self.last: dict[tuple[str, int], Tensor] = {}
        self._hooks: list[torch.utils.hooks.RemovableHandle] = []

    def __enter__(self) -> "HeadOutputs":
        for key, attention in self.modules.items():
            self._hooks.append(attention.output.register_forward_pre_hook(self._keep(key)))
        return self

    def __exit__(self, *rest: object) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()

    def _keep(self, key: tuple[str, int]) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def keep(_: nn.Module, arguments: tuple[Tensor, ...]) -> None:
            (context,) = arguments
            if context.requires_grad:
                context.retain_grad()
            self.last[key] = context

        return keep

    def of_heads(self) -> Iterator[tuple[Head, Tensor, Tensor | None]]:
        """Each head with its outputs `(tokens, d_head)` and their gradient, None where there was no backward pass."""
        for (part, layer), context in self.last.items():
            attention = self.modules[part, layer]
            for number in range(1, attention.n_heads + 1):
                columns = _columns(attention, head := Head(part, layer, number))
                grad = None if context.grad is None else context.grad[..., columns].flatten(0, -2)
                yield head, context[..., columns].flatten(0, -2), grad
