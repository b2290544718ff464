"""Results as text: the tables that are printed, the Markdown page that explains them, and a CSV file of all measurements."""

import csv
import platform
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

import torch

from protoformer.atomic import replace_atomically
from protoformer.complexity.layer_types import LAYER_TYPES, LayerSizes, LayerType
from protoformer.complexity.results import Crossover, Results
from protoformer.reporting.tables import markdown_table

Table = tuple[str, Sequence[str], Sequence[Sequence[str]]]  # title, column heads, rows
CSV_COLUMNS = (
    "layer_type", "n", "d", "k", "r", "formula_operations", "formula_sequential", "formula_path", "flops",
    "flops_without_projections", "seconds", "saved_bytes",
)  # fmt: skip
METHOD = """FLOPs are those of a forward pass, from torch's counter. Milliseconds are CPU time, forward and backward, of one
sequence in a batch of {batch}, for the fastest pass. MiB is the size of the tensors that the forward pass saves for backward,
without weights. Exponents are fitted over the larger half of n (at the largest d) and of d (at the largest n). Paths are
measured with gradients: the number of operations after which the output at the last position depends on the first input.
"""


def tables(results: Results) -> list[Table]:
    """Table 1 with measurements beside the formulas, the crossovers, and the speeds."""
    grid = results.grid
    n, d = grid.n[-1], grid.d[-1]
    heads = (
        "layer", "complexity", "sequential", "path", "path, measured", "GFLOP", "no projections", "ms", "MiB", "time grows as",
        "memory as",
    )  # fmt: skip
    title = (
        f"Table 1: one sequence of n = {n}, d = {d}; k = {grid.k}, r = {grid.r} "
        f"(paths at n = {grid.path_n}, r = {grid.path_r})"
    )
    costs = ("d", "paper's formula", "counted FLOPs", "counted, no projections", "measured time")
    speed_title = f"Speed in GFLOP/s at n = {n}: three times the forward count (backward is two) over the time"
    return [
        (title, heads, [_table_row(layer_type, results) for layer_type in LAYER_TYPES]),
        (
            "Sequence length from which self-attention costs more than an LSTM",
            costs,
            [_crossover_row(crossover, results) for crossover in results.crossovers()],
        ),
        (speed_title, ("d", *(layer_type.name for layer_type in LAYER_TYPES)), _speed_rows(results)),
    ]


def _table_row(layer_type: LayerType, results: Results) -> Sequence[str]:
    measurement = results.measurements[layer_type.name, results.grid.n[-1], results.grid.d[-1]]
    time_in_n, time_in_d = results.exponents(layer_type, "seconds")
    memory_in_n, _ = results.exponents(layer_type, "saved_bytes")
    return (
        layer_type.name,
        layer_type.complexity,
        layer_type.sequential,
        layer_type.path,
        f"{results.paths[layer_type.name]}",
        f"{measurement.flops / 1e9:.3g}",
        f"{measurement.flops_without_projections / 1e9:.3g}",
        f"{measurement.seconds * 1e3:.3g}",
        f"{measurement.saved_bytes / 2**20:.3g}",
        f"n^{time_in_n:.2f} d^{time_in_d:.2f}",
        f"n^{memory_in_n:.2f}",
    )


def _speed_rows(results: Results) -> list[Sequence[str]]:
    def speed(layer_type: LayerType, d: int) -> str:
        measurement = results.measurements[layer_type.name, results.grid.n[-1], d]
        return f"{3 * measurement.flops / measurement.seconds / 1e9:.0f}"

    return [(str(d), *(speed(layer_type, d) for layer_type in LAYER_TYPES)) for d in results.grid.d]


def _crossover_row(crossover: Crossover, results: Results) -> Sequence[str]:
    n_min, n_max = results.grid.n[0], results.grid.n[-1]

    def formatted(n: float | None) -> str:
        if n is None:
            return f"over {n_max}"
        size = f"{n:.0f}" if n > n_min else f"{n_min} or less"
        return f"{size} ({n / crossover.d:.2g} d)"

    measured = (crossover.flops, crossover.flops_without_projections, crossover.seconds)
    return (str(crossover.d), f"{crossover.formula:.0f} (1 d)", *map(formatted, measured))


def markdown(results: Results, command: str) -> str:
    """The page: the tables, how they were measured, and why the crossovers differ (page_notes.md)."""
    parts = [
        "# What a layer costs: Table 1, counted and measured\n",
        f"`{command}`, on {platform.machine()}, torch {torch.__version__}, {results.threads} thread(s), fp32.\n",
        METHOD.format(batch=results.grid.batch),
    ]
    for title, heads, rows in tables(results):
        parts.append(f"## {title}\n\n{markdown_table(heads, rows)}\n")
    parts.append("![time, memory and crossovers](complexity.svg)\n")
    notes = (resources.files("protoformer.complexity") / "page_notes.md").read_text(encoding="utf-8")
    return "\n".join([*parts, notes])


def write_csv(results: Results, path: Path) -> None:
    """One row for each layer type and size."""
    grid = results.grid
    with replace_atomically(path) as tmp, tmp.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(CSV_COLUMNS)
        for layer_type in LAYER_TYPES:
            for d in grid.d:
                for n in grid.n:
                    sizes = LayerSizes(n, d, grid.k, grid.r)
                    cell = results.measurements[layer_type.name, n, d]
                    formulas = (
                        layer_type.operations(sizes),
                        layer_type.steps(sizes),
                        round(layer_type.path_length(sizes), 3),
                    )
                    costs = (cell.flops, cell.flops_without_projections, f"{cell.seconds:.3e}", cell.saved_bytes)
                    writer.writerow([layer_type.name, *sizes, *formulas, *costs])
