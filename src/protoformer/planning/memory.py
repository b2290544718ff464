"""Memory of one device in training, in bytes: weights, gradients, optimizer states and activations.

With P bytes of fp32 parameters, and A bytes that the passes of a micro-batch hold at once in fp32 (`step_memory`):

    weights       P     3/2 P in mixed precision: within a step a copy of two bytes each beside the fp32 weights
    gradients     P
    optimizer    2 P    Adam's first and second moments; P of SGD with momentum, 0 without it, and about 0 of Adafactor, which
                        keeps sums over rows and columns in place of a matrix; P more with a moving average (`recipe.ema`)
    activations   A     A / 2 in mixed precision; what the optimizer's step holds, where that is more: P of BERT's Adam, 2 P of
                        LAMB

Devices are replicas (DDP): each holds all weights, gradients and optimizer states, and its part of the rows. Where N devices
divide them (`hardware.fully_shard`; ZeRO, arXiv 1910.02054, section 5), with R bytes of parameters outside of layers and L of
the largest layer:

    weights       P / N + R + 2 L      the layer that computes and the next one, which is gathered meanwhile; in mixed precision
                                       P / N + 3/2 R + L
    gradients     P / N + R + L        whole until they are reduced
    optimizer     2 P / N

Bytes that a device sends in an optimizer step of k micro-batches, in rings (arXiv 1910.02054, section 7):

    replicas      2 (N - 1) / N P                      all-reduce of gradients, once a step
    divided       k (N - 1) / N (2 (P - R) + R + P)    all-gather of layers, forward and backward, and of the rest once;
                                                       reduce-scatter of gradients. In mixed precision layers are half as large
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from protoformer.blocks.stacks import layers_of

MIXED = ("bf16", "fp16")  # `hardware.precision`: two bytes in products, four in weights


@dataclass(frozen=True)
class DeviceMemory:
    """Bytes on one device, by what they hold."""

    weights: int
    gradients: int
    optimizer: int
    activations: int

    @property
    def total(self) -> int:
        return self.weights + self.gradients + self.optimizer + self.activations


def optimizer_copies(optimizer: str, momentum: float) -> int:
    """Numbers that an optimizer keeps of each weight of a matrix."""
    return {"sgd": int(momentum > 0), "adafactor": 0}.get(optimizer, 2)


def optimizer_temporaries(recipe: Mapping[str, Any]) -> int:
    """Numbers for each weight that a step of the optimizer makes and frees again. Those of Adafactor, which goes through one
    matrix after another, are left out."""
    name = recipe.get("optimizer", "adamw")
    return {"adamw": int(not recipe.get("bias_correction", True)), "lamb": 2}.get(name, 0)


@dataclass(frozen=True)
class Units:
    """Bytes in fp32 of what is gathered at once: parameters outside of layers, and the largest layer."""

    root: int
    layer: int


def units_of(module: nn.Module) -> Units:
    """What is gathered at once of a module whose stacks are divided layer by layer."""
    layers = [_bytes(layer) for layer in layers_of(module)]
    return Units(_bytes(module) - sum(layers), max(layers, default=0))


def _bytes(module: nn.Module) -> int:
    return sum(p.numel() * p.element_size() for p in module.parameters())


def device_memory(
    parameter_bytes: int,
    activation_bytes: int,
    precision: str,
    *,
    trained_bytes: int | None = None,
    buffer_bytes: int = 0,
    copies: int = 2,
    temporary: int = 0,
    devices: int = 1,
    units: Units | None = None,
) -> DeviceMemory:
    """The table above. Counts are of fp32; `activation_bytes` is for the rows that the device holds at once, `trained_bytes`
    for the parameters that are not frozen (None: all), `copies` as `optimizer_copies`, `temporary` bytes of the optimizer's
    step. With `units` the `devices` divide weights, gradients and optimizer states."""
    trained = parameter_bytes if trained_bytes is None else trained_bytes
    mixed = precision in MIXED
    divisor = 1 if units is None else devices
    activations = max(activation_bytes // 2 if mixed else activation_bytes, temporary // divisor)
    if units is None:
        return DeviceMemory(
            weights=(parameter_bytes * 3 // 2 if mixed else parameter_bytes) + buffer_bytes,
            gradients=trained,
            optimizer=copies * trained,
            activations=activations,
        )
    gathered = units.root * 3 // 2 + units.layer if mixed else units.root + 2 * units.layer
    return DeviceMemory(
        weights=parameter_bytes // devices + gathered + buffer_bytes,
        gradients=trained // devices + min(trained, units.root + units.layer),
        optimizer=copies * trained // devices,
        activations=activations,
    )


def sent_bytes(
    parameter_bytes: int, trained_bytes: int, precision: str, *, devices: int, accumulation: int, units: Units | None
) -> int:
    """Bytes that a device sends in an optimizer step, as above."""
    others = (devices - 1) / devices
    if units is None:
        return int(2 * others * trained_bytes)
    layers = (parameter_bytes - units.root) / (2 if precision in MIXED else 1)
    return int(accumulation * others * (2 * layers + units.root + trained_bytes))
