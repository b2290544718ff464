"""What was found, as text: the tables that are printed, the page that explains them, a row a cell as CSV."""

import csv
import platform
from collections.abc import Sequence
from pathlib import Path

import torch

from protoformer.atomic import replace_atomically
from protoformer.complexity.kinds import KINDS, Kind, Sizes
from protoformer.complexity.table import Crossing, Found, path_neighbourhood

Table = tuple[str, Sequence[str], Sequence[Sequence[str]]]  # title, heads, rows
COLUMNS = (
    "kind", "n", "d", "k", "r", "formula_operations", "formula_sequential", "formula_path", "flops",
    "flops_without_projections", "seconds", "kept_bytes",
)  # fmt: skip
HOW = """FLOPs are those of a forward pass, counted by torch's counter. Milliseconds are processor time, forward and backward,
for one sequence of a batch of {batch}; the quickest pass counts. MiB are what forward keeps for backward, beside the weights.
Exponents are fitted over the larger half of n (at the greatest d) and of d (at the greatest n). Paths are measured by
gradients: after how many operations the last position has one by the first input.
"""
WHY = """## Why the crossings differ

- **The paper's formula** compares n^2 d with n d^2 and drops constants: even at n = d.
- **Counted FLOPs** keep them. Attention makes two products of n x n x d, 4 n^2 d FLOPs; an LSTM makes four gates of its state,
  8 n d^2. Even at n = 2d. The maps of each position by itself (queries, keys, values and the output; an LSTM's gates of its
  input) are 8 n d^2 on either side, so with them it is n = 2d again. It is the LSTM's four gates that put it there: a GRU has
  three, hence 1.5d without the maps (6 n d^2) and d with them (12 n d^2 against 8 n d^2 + 4 n^2 d); a plain recurrence has one
  matrix, hence d/2 without them, and with them attention always costs more.
- **Measured time** is the count over a speed, and speeds differ (last table). Attention reads and writes n x n scores and takes
  their softmax, which no FLOP here counts. A recurrence makes n products one after another: with a small d each is too small to
  fill the processor, and with a large one its weights, 32 d^2 bytes, are read anew at every step and outgrow the nearest cache.
  What slows attention brings the crossing down, what slows the recurrence brings it up. On hardware with more parallel units
  than these threads the second grows: sequential operations, the paper's second column, are no matter of FLOPs at all.

Restricted attention is counted above r n d: its queries are taken in tiles, each against all keys that any of them may see.
Dilated convolutions are measured with causal layers, as in a decoder: with symmetric ones and zeros outside, some pairs of
positions are never connected, since the way between them would lead out of the sequence.
"""


def tables(found: Found) -> list[Table]:
    """Table 1 with what was measured beside the formulas; the crossings."""
    grid = found.grid
    n, d = grid.n[-1], grid.d[-1]
    rows = []
    for kind in KINDS:
        cell = found.cells[kind.name, n, d]
        in_n, in_d = found.exponents(kind, "seconds")
        rows.append(
            (
                kind.name, kind.complexity, kind.sequential, kind.path, f"{found.paths[kind.name]}",
                f"{cell.flops / 1e9:.3g}", f"{cell.flops_without_projections / 1e9:.3g}", f"{cell.seconds * 1e3:.3g}",
                f"{cell.kept / 2**20:.3g}", f"n^{in_n:.2f} d^{in_d:.2f}", f"n^{found.exponents(kind, 'kept')[0]:.2f}",
            )
        )  # fmt: skip
    heads = (
        "layer", "complexity", "sequential", "path", "path, measured", "GFLOP", "no projections", "ms", "MiB", "time grows as",
        "memory as",
    )  # fmt: skip
    paths = f"paths at n = {grid.path_n}, r = {path_neighbourhood(grid)}"
    title = f"Table 1: one sequence of n = {n}, d = {d}; k = {grid.k}, r = {grid.r} ({paths})"
    crossed = [_crossing(one, found) for one in found.crossings()]
    ways = ("d", "paper's formula", "counted FLOPs", "counted, no projections", "measured time")
    return [
        (title, heads, rows),
        ("From which n on self-attention costs more than an LSTM", ways, crossed),
        (
            f"Speed in GFLOP/s at n = {n}: three times the forward count (backward is two) over the time",
            *_speeds(found),
        ),
    ]


def _speeds(found: Found) -> tuple[Sequence[str], Sequence[Sequence[str]]]:
    def speed(kind: Kind, d: int) -> str:
        cell = found.cells[kind.name, found.grid.n[-1], d]
        return f"{3 * cell.flops / cell.seconds / 1e9:.0f}"

    heads = ("d", *(kind.name for kind in KINDS))
    return heads, [(str(d), *(speed(kind, d) for kind in KINDS)) for d in found.grid.d]


def _crossing(one: Crossing, found: Found) -> tuple[str, ...]:
    def told(n: float | None) -> str:
        if n is None:
            return f"over {found.grid.n[-1]}"
        size = f"{n:.0f}" if n > found.grid.n[0] else f"{found.grid.n[0]} or less"
        return f"{size} ({n / one.d:.2g} d)"

    counted = (one.flops, one.flops_without_projections, one.seconds)
    return (str(one.d), f"{one.formula:.0f} (1 d)", *map(told, counted))


def markdown(found: Found, command: str) -> str:
    """The page: tables, how they came about, why the crossings differ."""
    grid = found.grid
    parts = [
        "# What a layer costs: Table 1, counted and measured\n",
        f"`{command}`, on {platform.machine()}, torch {torch.__version__}, {found.threads} thread(s), fp32.\n",
        HOW.format(batch=grid.batch),
    ]
    for title, heads, rows in tables(found):
        lines = ["| " + " | ".join(row) + " |" for row in (heads, ["---"] * len(heads), *rows)]
        parts.append(f"## {title}\n\n" + "\n".join(lines) + "\n")
    parts.append("![time, memory and crossings](complexity.svg)\n")
    return "\n".join([*parts, WHY])


def write_csv(found: Found, path: Path) -> None:
    """A row a cell."""
    with replace_atomically(path) as tmp, tmp.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for kind in KINDS:
            for d in found.grid.d:
                for n in found.grid.n:
                    sizes, cell = Sizes(n, d, found.grid.k, found.grid.r), found.cells[kind.name, n, d]
                    formulas = (kind.operations(sizes), kind.steps(sizes), round(kind.longest(sizes), 3))
                    counted = (cell.flops, cell.flops_without_projections, f"{cell.seconds:.3e}", cell.kept)
                    writer.writerow([kind.name, *sizes, *formulas, *counted])
