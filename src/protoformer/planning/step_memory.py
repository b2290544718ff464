"""What a micro-batch allocates beside weights, gradients and optimizer states: found on the meta device, where nothing is
allocated, by the operations and kernels that the real device would run."""

import math
import weakref
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.fx.experimental import _config as meta_config
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from protoformer.blocks.kernels.packing import SequenceLengths
from protoformer.blocks.kernels.planned import meta_stands_for
from protoformer.blocks.stacks import recompute_activations

EXACT_TOKENS = (
    1024  # up to which all rows are taken through the model; of more tokens the bytes of further rows are equal
)


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of tensors that are made within the block and not yet freed; `peak` is the most at once.

    A storage counts once, however many tensors view it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._storages: dict[int, weakref.ref[torch.UntypedStorage]] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **kwargs or {})
        for tensor in tree_leaves(out) if isinstance(out, tuple | list) else (out,):
            if isinstance(tensor, Tensor):
                self._add(tensor.untyped_storage())
        return out

    def exclude(self, tensors: Iterable[Tensor]) -> None:
        """Tensors that are there anyway."""
        for tensor in tensors:
            storage = tensor.untyped_storage()
            self._storages[storage._cdata] = weakref.ref(storage)

    def _add(self, storage: torch.UntypedStorage) -> None:
        key, nbytes = storage._cdata, storage.nbytes()
        if key in self._storages:
            return

        def freed(_: object) -> None:
            del self._storages[key]
            self.now -= nbytes

        self._storages[key] = weakref.ref(storage, freed)
        self.now += nbytes
        self.peak = max(self.peak, self.now)


class StepMemory:
    """Bytes that the forward and backward passes of a micro-batch hold at once, beside weights and gradients.

    `module` is a TaskModule on the meta device, which is in training from then on, with activations recomputed as `hardware`
    says. `accumulates`: gradients of an earlier micro-batch are there, so that new ones are added to them.
    """

    def __init__(self, module: Any, hardware: Mapping[str, Any], tokens: int, *, accumulates: bool = False) -> None:
        self.module, self.tokens, self.accumulates = module.train(), tokens, accumulates
        on_gpu = hardware["accelerator"] == "gpu" or (hardware["accelerator"] == "auto" and torch.cuda.is_available())
        self.device = "cuda" if on_gpu else "cpu"
        self.rows = max(1, math.ceil(EXACT_TOKENS / 2 / tokens))  # of more rows than twice as many each takes as much
        if hardware["checkpoint_activations"]:
            recompute_activations(module)
        module.backbone.packing = "off" if hardware["compile"] else hardware["packing"]

    def of(self, rows: int) -> int:
        """The peak of so many rows of `tokens` tokens."""
        if rows <= 2 * self.rows:
            return max(self._passes(rows))
        one, two = self._passes(self.rows), self._passes(2 * self.rows)
        more = (rows - self.rows) / self.rows
        return max(round(a + more * (b - a)) for a, b in zip(one, two, strict=True))

    def _passes(self, rows: int) -> tuple[int, int]:
        """The peaks of the forward and of the backward pass; in the first one gradients of the step before are still there."""
        module, tokens = self.module, self.tokens
        trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
        with (
            torch.device("meta"),
            meta_stands_for(self.device),
            # a kind of one's own may select targets by their values, of which the meta device has none: all of them then
            meta_config.patch(meta_nonzero_assume_all_nonzero=True),
            LiveBytes() as live,
        ):
            live.exclude([*module.parameters(), *module.buffers()])
            for parameter in trained:
                parameter.grad = None
                if self.accumulates:
                    gradient = torch.empty_like(parameter)
                    live.exclude([gradient])
                    parameter.grad = gradient
            live.now = live.peak = 0
            total = module.loss(with_lengths(module.dummy_batch(rows, tokens), tokens)).total
            forward, live.peak = live.peak, live.now
            total.backward()
        gradients = 0 if self.accumulates else sum(each.numel() * each.element_size() for each in trained)
        for parameter in trained:
            parameter.grad = None
        return forward, live.peak - gradients


def with_lengths(batch: Mapping[str, Any], tokens: int) -> dict[str, Any]:
    """A batch without padding with the counts that a loader would add."""
    counts: dict[str, Any] = {}
    for name, mask in (("lengths", "padding_mask"), ("decoder_lengths", "decoder_mask")):
        if mask in batch:
            counts[name] = SequenceLengths([tokens] * (batch[mask].numel() // tokens), tokens)
    if "target_ids" in batch:
        counts["target_count"] = batch["target_ids"].numel()
    return {**batch, **counts}
