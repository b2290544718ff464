"""Memory of one device in training, in bytes: weights, gradients, optimizer states and activations.

With P bytes of fp32 parameters, and A bytes that autograd saves in fp32 for the rows that the device holds at once:

    weights       P     3/2 P in mixed precision: within a step a copy of two bytes each beside the fp32 weights
    gradients     P
    optimizer    2 P    Adam's first and second moments; P of SGD with momentum, 0 without it, and about 0 of Adafactor, which
                        keeps sums over rows and columns in place of a matrix
    activations   A     A / 2 in mixed precision

Devices are replicas (DDP): each holds all weights, gradients and optimizer states, and its part of the rows. (A strategy that
shards them over N devices, as ZeRO, arXiv 1910.02054, section 5, divides a line by N.)
"""

from dataclasses import dataclass

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


def device_memory(
    parameter_bytes: int, activation_bytes: int, precision: str, *, trained_bytes: int | None = None, copies: int = 2
) -> DeviceMemory:
    """The table above. Counts are of fp32; `activation_bytes` is for the rows that the device holds at once, `trained_bytes`
    for the parameters that are not frozen (None: all), `copies` as `optimizer_copies`."""
    trained = parameter_bytes if trained_bytes is None else trained_bytes
    mixed = precision in MIXED
    return DeviceMemory(
        weights=parameter_bytes * 3 // 2 if mixed else parameter_bytes,
        gradients=trained,
        optimizer=copies * trained,
        activations=activation_bytes // 2 if mixed else activation_bytes,
    )
