"""Measurements over a grid of lengths and widths, with exponents and crossovers."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from protoformer.complexity.crossover import crossover, fit_exponent
from protoformer.complexity.layer_types import ATTENTION, LAYER_TYPES, RECURRENT, LayerSizes, LayerType
from protoformer.complexity.measure import Measurement, longest_path, measure_layer
from protoformer.errors import ConfigurationError

MeasurementGrid = Mapping[tuple[str, int, int], Measurement]  # by layer type, n and d


@dataclass(frozen=True)
class SizeGrid:
    """The sizes to measure: lengths `n`, widths `d`, a convolution's kernel `k`, the neighbourhood `r` of restricted attention.

    `batch` sequences are measured at once, each cell for at least `min_seconds`; paths are measured at length `path_n`. Raises
    ConfigurationError for sizes that no exponent can be fitted to.
    """

    n: Sequence[int]
    d: Sequence[int]
    k: int = 3
    r: int = 33
    batch: int = 2
    path_n: int = 64
    min_seconds: float = 0.1

    def __post_init__(self) -> None:
        for name, sizes, smallest in (("--n", self.n, 2), ("--d", self.d, 2)):
            if len(set(sizes)) < 2 or min(sizes) < smallest or list(sizes) != sorted(set(sizes)):
                raise ConfigurationError(
                    f"{name} {' '.join(map(str, sizes))}: two sizes or more, each at least {smallest}, in rising order"
                )
        if uneven := [d for d in self.d if d > 64 and d % 64]:
            raise ConfigurationError(f"--d {uneven[0]}: above 64 a multiple of 64, the width of a head")

    @property
    def path_r(self) -> int:
        """A neighbourhood well below the length that paths are measured at."""
        return min(self.r, max(2, self.path_n // 8))


@dataclass(frozen=True)
class Crossover:
    """The n from which on self-attention costs more than an LSTM of width d, by each cost; None: at no n of the grid."""

    d: int
    formula: float
    flops: float | None
    flops_without_projections: float | None
    seconds: float | None


@dataclass(frozen=True)
class Results:
    """All measurements of a grid, and the longest path of each layer type."""

    grid: SizeGrid
    threads: int
    measurements: MeasurementGrid
    paths: Mapping[str, int]

    def over_n(self, layer_type: LayerType, d: int, cost: str) -> list[float]:
        return [float(getattr(self.measurements[layer_type.name, n, d], cost)) for n in self.grid.n]

    def over_d(self, layer_type: LayerType, n: int, cost: str) -> list[float]:
        return [float(getattr(self.measurements[layer_type.name, n, d], cost)) for d in self.grid.d]

    def exponents(self, layer_type: LayerType, cost: str) -> tuple[float, float]:
        """Of n at the greatest width, and of d at the greatest length."""
        n, d = self.grid.n, self.grid.d
        costs_over_n, costs_over_d = self.over_n(layer_type, d[-1], cost), self.over_d(layer_type, n[-1], cost)
        return fit_exponent(n, costs_over_n), fit_exponent(d, costs_over_d)

    def crossovers(self) -> list[Crossover]:
        def at(d: int, cost: str) -> float | None:
            return crossover(self.grid.n, self.over_n(ATTENTION, d, cost), self.over_n(RECURRENT, d, cost))

        costs = ("flops", "flops_without_projections", "seconds")
        return [Crossover(d, float(d), *(at(d, cost) for cost in costs)) for d in self.grid.d]


def measure_grid(grid: SizeGrid) -> Results:
    """Measure all layer types at all sizes; progress is printed on stderr."""
    measurements: dict[tuple[str, int, int], Measurement] = {}
    for number, layer_type in enumerate(LAYER_TYPES, start=1):
        for d in grid.d:
            print(f"[{number}/{len(LAYER_TYPES)}] {layer_type.name}, d = {d}", file=sys.stderr, flush=True)
            for n in grid.n:
                sizes = LayerSizes(n, d, grid.k, grid.r)
                measurements[layer_type.name, n, d] = measure_layer(
                    layer_type, sizes, batch=grid.batch, min_seconds=grid.min_seconds
                )
    print(f"longest paths at n = {grid.path_n}", file=sys.stderr, flush=True)
    paths = {layer_type.name: longest_path(layer_type, grid.path_n, grid.k, grid.path_r) for layer_type in LAYER_TYPES}
    return Results(grid, torch.get_num_threads(), measurements, paths)
