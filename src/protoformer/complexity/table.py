"""All cells of the grid, and what follows from them."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from protoformer.complexity.crossing import crossing, exponent
from protoformer.complexity.kinds import ATTENTION, KINDS, RECURRENT, Kind, Sizes
from protoformer.complexity.measuring import Measured, longest_path, measured
from protoformer.errors import ConfigurationError

Cells = Mapping[tuple[str, int, int], Measured]  # by kind, n and d


@dataclass(frozen=True)
class Grid:
    """What is measured: lengths, widths, a convolution's kernel, the neighbourhood of restricted attention, sequences at once,
    and the length that paths are measured at. Raises ConfigurationError for sizes that nothing could be told from."""

    n: Sequence[int]
    d: Sequence[int]
    k: int = 3
    r: int = 33
    batch: int = 2
    path_n: int = 64
    least: float = 0.1  # seconds for each cell, at least

    def __post_init__(self) -> None:
        for name, sizes, smallest in (("--n", self.n, 2), ("--d", self.d, 2)):
            if len(set(sizes)) < 2 or min(sizes) < smallest or list(sizes) != sorted(set(sizes)):
                raise ConfigurationError(
                    f"{name} {' '.join(map(str, sizes))}: two sizes or more, each at least {smallest}, in rising order"
                )
        if odd := [d for d in self.d if d > 64 and d % 64]:
            raise ConfigurationError(f"--d {odd[0]}: over 64 a multiple of 64, the width of a head")


@dataclass(frozen=True)
class Crossing:
    """The n from which on self-attention costs more than an LSTM of width d, by each way to count; None: not in the grid."""

    d: int
    formula: float
    flops: float | None
    flops_without_projections: float | None
    seconds: float | None


@dataclass(frozen=True)
class Found:
    """Everything that was measured."""

    grid: Grid
    threads: int
    cells: Cells
    paths: Mapping[str, int]

    def over_n(self, kind: Kind, d: int, what: str) -> list[float]:
        return [float(getattr(self.cells[kind.name, n, d], what)) for n in self.grid.n]

    def over_d(self, kind: Kind, n: int, what: str) -> list[float]:
        return [float(getattr(self.cells[kind.name, n, d], what)) for d in self.grid.d]

    def exponents(self, kind: Kind, what: str) -> tuple[float, float]:
        """In n at the greatest width, in d at the greatest length."""
        n, d = self.grid.n, self.grid.d
        return exponent(n, self.over_n(kind, d[-1], what)), exponent(d, self.over_d(kind, n[-1], what))

    def crossings(self) -> list[Crossing]:
        def at(d: int, what: str) -> float | None:
            return crossing(self.grid.n, self.over_n(ATTENTION, d, what), self.over_n(RECURRENT, d, what))

        ways = ("flops", "flops_without_projections", "seconds")
        return [Crossing(d, float(d), *(at(d, what) for what in ways)) for d in self.grid.d]


def measure(grid: Grid) -> Found:
    """Fill the grid, saying on stderr where it is."""
    cells: dict[tuple[str, int, int], Measured] = {}
    for number, kind in enumerate(KINDS, start=1):
        for d in grid.d:
            print(f"[{number}/{len(KINDS)}] {kind.name}, d = {d}", file=sys.stderr, flush=True)
            for n in grid.n:
                cells[kind.name, n, d] = measured(kind, Sizes(n, d, grid.k, grid.r), batch=grid.batch, least=grid.least)
    print(f"longest paths at n = {grid.path_n}", file=sys.stderr, flush=True)
    paths = {kind.name: longest_path(kind, grid.path_n, grid.k, path_neighbourhood(grid)) for kind in KINDS}
    return Found(grid, torch.get_num_threads(), cells, paths)


def path_neighbourhood(grid: Grid) -> int:
    """A neighbourhood well below the length that paths are measured at."""
    return min(grid.r, max(2, grid.path_n // 8))
