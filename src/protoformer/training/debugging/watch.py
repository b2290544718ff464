"""First non-finite value of a forward and a backward pass, found by hooks on every module."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from torch import Tensor, nn

MAX_DEPTH = 4  # of containers that tensors are looked for in
MAX_NAMES = 3


@dataclass(frozen=True)
class NonFinite:
    """Where the first non-finite value was made, and what was read there; `rows` are numbers of rows of the batch."""

    where: str
    what: str
    read: Sequence[str] = ()
    rows: Sequence[int] = ()

    def __str__(self) -> str:
        return f"{self.what} in {self.where}" + (f", which read {self.read[0]}" if self.read else "")


@dataclass
class Role:
    """Modules that a tensor was made by, and read by."""

    producer: str | None = None
    consumers: list[str] = field(default_factory=list)


class Watch:
    """Within `watching` the first non-finite value that a module or a weight's gradient gets is kept as `first`.

    Minus infinity counts where a layer with weights of its own makes it: masks are full of it. What comes after a non-finite
    value is not looked at, and nothing is raised, so that ranks stay in step.
    """

    def __init__(self, module: nn.Module, rows: int) -> None:
        self.module, self.rows = module, rows
        self.first: NonFinite | None = None
        self._open: list[str] = []  # modules whose forward pass is under way, the outermost first
        self._roles: dict[int, tuple[Tensor, Role]] = {}  # kept alive: an id is that of a living tensor
        self._output_gradients: dict[str, str] = {}

    @contextmanager
    def watching(self) -> Iterator["Watch"]:
        with ExitStack() as hooks, _uncompiled(self.module):
            for name, part in self.module.named_modules():
                if part is self.module:
                    continue
                hooks.callback(part.register_forward_pre_hook(partial(self._before, name), with_kwargs=True).remove)
                hooks.callback(part.register_forward_hook(partial(self._after, name), with_kwargs=True).remove)
            for name, weight in self.module.named_parameters():
                if weight.requires_grad:
                    hooks.callback(weight.register_hook(partial(self._weight_gradient, name)).remove)
            yield self
        self._roles.clear()

    def check_loss(self, loss: Tensor) -> None:
        """A loss that is not finite, though every module's values are."""
        if self.first is None and _bad(loss, strict=True):
            self.first = NonFinite("the computation of the loss, after the last module", describe(loss))

    def _before(self, name: str, part: nn.Module, args: Any, kwargs: Any) -> None:
        if self.first is None:
            for tensor in _floats([args, kwargs]):
                if _bad(tensor, strict=False):
                    maker = self._open[-1] if self._open else "the task's module"
                    self.first = NonFinite(
                        f"{maker}, before it calls {name}", describe(tensor), rows=_rows(tensor, self.rows)
                    )
                    break
                self._role(tensor).consumers.append(name)
        self._open.append(name)

    def _after(self, name: str, part: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        self._open.remove(name)
        if self.first is not None:
            return
        strict = next(part.children(), None) is None and next(part.parameters(), None) is not None
        for tensor in _floats(output):
            if _bad(tensor, strict=strict):
                read = [describe(each) for each in _floats([args, kwargs])]
                self.first = NonFinite(f"the forward pass of {name}", describe(tensor), read, _rows(tensor, self.rows))
                return
            role = self._role(tensor)
            role.producer = role.producer or name

    def _role(self, tensor: Tensor) -> Role:
        if id(tensor) not in self._roles:
            self._roles[id(tensor)] = (tensor, Role())
            if tensor.requires_grad:
                tensor.register_hook(partial(self._gradient, self._roles[id(tensor)][1]))
        return self._roles[id(tensor)][1]

    def _gradient(self, role: Role, gradient: Tensor) -> None:
        if self.first is not None:
            return
        if not _bad(gradient, strict=True):
            if role.producer is not None:
                self._output_gradients[role.producer] = describe(gradient)
            return
        deepest = max((name.count(".") for name in role.consumers), default=0)
        names = [name for name in dict.fromkeys(role.consumers) if name.count(".") == deepest]
        where = " or ".join(names[:MAX_NAMES]) or f"what follows {role.producer or 'the inputs'}"
        read = [text for name in names if (text := self._output_gradients.get(name)) is not None]
        self.first = NonFinite(f"the backward pass of {where}", describe(gradient), read, _rows(gradient, self.rows))

    def _weight_gradient(self, name: str, gradient: Tensor) -> None:
        if self.first is None and _bad(gradient, strict=True):
            self.first = NonFinite(f"the gradient of the weight {name}", describe(gradient))


@contextmanager
def _uncompiled(module: nn.Module) -> Iterator[None]:
    """Within the block compiled modules are called as they were written: their parts have names and hooks."""
    compiled = [(part, part._compiled_call_impl) for part in module.modules() if part._compiled_call_impl is not None]
    for part, _ in compiled:
        part._compiled_call_impl = None
    try:
        yield
    finally:
        for part, call in compiled:
            part._compiled_call_impl = call


def describe(tensor: Tensor) -> str:
    """`3 of 96 values nan (float32, 4 x 24; the others -1.2 to 3.4, mean 0.1)`."""
    values = tensor.detach().float().flatten()
    finite = values[values.isfinite()]
    shape = " x ".join(map(str, tensor.shape)) or "a number"
    kinds = [("nan", values.isnan()), ("inf", values.isposinf()), ("-inf", values.isneginf())]
    bad = [f"{int(mask.sum()):,} {name}" for name, mask in kinds if mask.any()]
    text = f"{' and '.join(bad)} of {values.numel():,} values" if bad else f"{values.numel():,} finite values"
    others = (
        "none is finite"
        if not len(finite)
        else f"{'the others ' if bad else ''}{finite.min():.3g} to {finite.max():.3g}"
    )
    mean = f", mean {finite.mean():.3g}" if len(finite) else ""
    return f"{text} ({str(tensor.dtype).removeprefix('torch.')}, {shape}; {others}{mean})"


def _bad(tensor: Tensor, strict: bool) -> bool:
    values = tensor.detach()
    bad = ~values.isfinite() if strict else values.isnan() | values.isposinf()
    return bool(bad.any())


def _rows(tensor: Tensor, rows: int) -> list[int]:
    """Rows of the batch with values that are not finite, where the tensor's first axis is the batch's."""
    if tensor.ndim < 2 or not rows or len(tensor) != rows:
        return []
    return (~tensor.detach().isfinite()).flatten(1).any(1).nonzero().flatten().tolist()


def _floats(value: Any, depth: int = 0) -> Iterator[Tensor]:
    """Floating-point tensors in nested containers and in the objects of this project that hold some."""
    if isinstance(value, Tensor):
        if value.is_floating_point() and value.numel():
            yield value
    elif depth < MAX_DEPTH:
        if isinstance(value, Mapping):
            inner: Sequence[Any] = list(value.values())
        elif isinstance(value, list | tuple):
            inner = value
        else:
            inner = list(getattr(value, "__dict__", {}).values()) if not isinstance(value, nn.Module) else []
        for each in inner:
            yield from _floats(each, depth + 1)
