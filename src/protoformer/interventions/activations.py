"""Activations by name: kept from a pass of a model, and replaced in one (as Vig et al. 2020, arXiv 2004.12265, do).

    embeddings                  what the first layer reads                       (tokens, d_model)
    layers.N                    the output of layer N, from 1                    (tokens, d_model)
    layers.N.heads              outputs of its heads, before W^O                 (tokens, heads, d_head)
    layers.N.attention          what its attention adds to the residual stream   (tokens, d_model)
    layers.N.feed_forward       what its feed-forward network adds               (tokens, d_model)

Of an encoder-decoder the names begin with encoder or decoder (decoder.layers.2), and the decoder's attention to the encoder is
layers.N.cross_heads and layers.N.cross_attention. A post-norm layer normalises each sum, so its output is not the sum of these
parts.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from protoformer.blocks.attention import MultiHeadAttention
from protoformer.blocks.stacks import DecoderStack, EncoderStack
from protoformer.config.names.suggest import advice
from protoformer.errors import ConfigurationError

Replacement = Tensor | Callable[[Tensor], Tensor]


class HookPoint(NamedTuple):
    """Where an activation is: the input of a module or its output, of which the last axis may be divided into heads."""

    module: nn.Module
    is_input: bool = False
    heads: int | None = None


class Activations(Mapping[str, Tensor]):
    """Activations of one text by name, on the CPU; `tokens` labels their first axis."""

    def __init__(self, values: Mapping[str, Tensor], tokens: list[str]) -> None:
        self._values, self.tokens = dict(values), tokens

    def __getitem__(self, name: str) -> Tensor:
        if name not in self._values:
            raise KeyError(f"no activation {name!r}; {advice(name, self._values, 'names')}")
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        shapes = "\n".join(f"  {name}: {tuple(value.shape)}" for name, value in self._values.items())
        return f"{type(self).__name__} of {len(self.tokens)} tokens:\n{shapes}"


def hook_points(model: nn.Module) -> dict[str, HookPoint]:
    """All names of a model's activations. Layers without attention in heads, such as recurrent ones, have fewer."""
    points: dict[str, HookPoint] = {}
    stacks = {name: each for name, each in model.named_children() if isinstance(each, EncoderStack | DecoderStack)}
    for name, stack in stacks.items():
        prefix = "" if name == "stack" else f"{name}."
        source = (
            "target_embeddings" if name == "decoder" and getattr(model, "target_embeddings", None) else "embeddings"
        )
        if name != "decoder" or source == "target_embeddings":
            points[f"{prefix}embeddings"] = HookPoint(getattr(model, source))
        for number, layer in enumerate(stack.layers, start=1):
            own = f"{prefix}layers.{number}"
            points |= _hook_points_of_layer(own, layer)  # type: ignore[arg-type]  # a module, typed by what it can do
    return points


def _hook_points_of_layer(name: str, layer: nn.Module) -> dict[str, HookPoint]:
    points = {}
    for attribute, heads in (("attention", "heads"), ("cross_attention", "cross_heads")):
        attention = getattr(layer, attribute, None)
        if isinstance(attention, MultiHeadAttention):
            points[f"{name}.{heads}"] = HookPoint(attention.output, is_input=True, heads=attention.n_heads)
            points[f"{name}.{attribute}"] = HookPoint(attention)
    if isinstance(getattr(layer, "feed_forward", None), nn.Module):
        points[f"{name}.feed_forward"] = HookPoint(layer.feed_forward)  # type: ignore[arg-type]
    return {**points, name: HookPoint(layer)}


@contextmanager
def kept(model: nn.Module, values: dict[str, Tensor]) -> Iterator[None]:
    """Within the block each pass of the model over one text without padding leaves its activations in `values`."""

    def keep(name: str, point: HookPoint) -> Callable[[Tensor], None]:
        def see(tensor: Tensor) -> None:
            tokens = tensor.detach().reshape(-1, tensor.shape[-1])
            divided = tokens if point.heads is None else tokens.unflatten(-1, (point.heads, -1))
            values[name] = divided.float().cpu().clone()

        return see

    with ExitStack() as hooks:
        for name, point in hook_points(model).items():
            hooks.callback(_attached(point, keep(name, point)).remove)
        yield


@contextmanager
def replaced(model: nn.Module, replacements: Mapping[str, Replacement]) -> Iterator[None]:
    """Within the block each pass of the model computes with other activations: a tensor of the shape that `kept` gives, or a
    function from the activation to another one of its shape, which begins with a batch axis where the pass has one.

    Raises ConfigurationError for a name that the model lacks, for what is neither, and in a pass over texts of another shape.
    """
    known = hook_points(model)
    for name, value in replacements.items():
        if name not in known:
            raise ConfigurationError(f"no activation {name!r}; {advice(name, known, 'names')}")
        if not isinstance(value, Tensor) and not callable(value):
            raise ConfigurationError(f"{name}: a {type(value).__name__}, where a tensor or a function was expected")

    def change(name: str, value: Replacement) -> Callable[[Tensor], Tensor]:
        def put(tensor: Tensor) -> Tensor:
            return _replacement(name, value, tensor, known[name].heads)

        return put

    with ExitStack() as hooks:
        for name, value in replacements.items():
            hooks.callback(_attached(known[name], change(name, value)).remove)
        yield


def _replacement(name: str, value: Replacement, tensor: Tensor, heads: int | None) -> Tensor:
    """What stands in the place of an activation, of its shape; `heads` divide its last axis."""
    divided = tensor if heads is None else tensor.unflatten(-1, (heads, -1))
    new = value if isinstance(value, Tensor) else value(divided)
    single = divided[0] if tensor.ndim == 3 and len(tensor) == 1 else divided  # a text without its batch axis
    if not isinstance(new, Tensor):
        raise ConfigurationError(f"{name}: the function gave a {type(new).__name__}, where a tensor was expected")
    if new.shape not in (divided.shape, single.shape):
        raise ConfigurationError(
            f"{name}: a value of shape {tuple(new.shape)} for an activation of shape {tuple(single.shape)}"
            + (": patch a single text of as many tokens" if new is value else "")
        )
    return new.to(tensor).reshape(tensor.shape)


def _attached(point: HookPoint, see: Callable[[Tensor], Tensor | None]) -> torch.utils.hooks.RemovableHandle:
    """A hook that calls `see` with the activation, and puts what it returns (None: nothing) in its place."""

    def on_input(_: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...] | None:
        new = see(arguments[0])
        return None if new is None else (new, *arguments[1:])

    def on_output(_: nn.Module, __: tuple[Any, ...], output: Any) -> Any:
        new = see(output[0] if isinstance(output, tuple) else output)
        return None if new is None else (new, *output[1:]) if isinstance(output, tuple) else new

    return (
        point.module.register_forward_pre_hook(on_input)
        if point.is_input
        else point.module.register_forward_hook(on_output)
    )
