"""Tables on the terminal, CSV files and the figure."""

from collections.abc import Sequence
from pathlib import Path

from protoformer.inference.layers.probes import Mix
from protoformer.inference.layers.results import MetricResult
from protoformer.inference.syntax.output import write_csv
from protoformer.reporting.tables import print_table

NUMBERS = ("strength", "score", "random")


def print_results(results: Sequence[MetricResult], mix: Mix, baseline: str) -> None:
    """A table for each metric and split, and the weights of the mix."""
    heads = ("layer", "strength", "score", "95 % interval", "random", "against random", f"against the {baseline}")
    for each in results:
        print()
        rows = [(baseline, "", _percent(each.baseline), "", "", "", "")]
        for probe in each.probes:
            interval = (
                "-" if probe.low is None or probe.high is None else f"{_percent(probe.low)} to {_percent(probe.high)}"
            )
            random = _percent(sum(probe.random) / len(probe.random)) if probe.random else "-"
            name = f"{probe.probe} (embeddings)" if probe.probe == "0" else probe.probe
            rows.append((name, f"{probe.strength:g}", _percent(probe.score), interval, random, probe.verdict_random,
                         probe.verdict_baseline))  # fmt: skip
        title = f"{each.split}: {each.metric}" if each.split else each.metric
        print_table(heads, rows, title, right=NUMBERS, section_after=1)
    weights = ", ".join(f"layer {layer} {_percent(weight)}" for layer, weight in enumerate(mix.weights.tolist()))
    centre = sum(layer * weight for layer, weight in enumerate(mix.weights.tolist()))
    print(f"\nWeights of the scalar mix in per cent: {weights}; centre of gravity {centre:.2f}; gamma {mix.gamma:.3f}")


def write_tables(folder: Path, results: Sequence[MetricResult], mix: Mix, random: Sequence[Mix]) -> list[Path]:
    """layers.csv: each probe by split and metric. mix.csv: the weights of each layer, and gamma in the last row."""
    heads = ("split", "metric", "layer", "strength", "score", "low", "high", "random", "p_random", "against_random",
             "p_baseline", "against_baseline")  # fmt: skip
    rows: list[Sequence[object]] = []
    for each in results:
        rows.append((each.split, each.metric, "baseline", "", _digits(each.baseline), *[""] * 7))
        rows += [
            (each.split, each.metric, probe.probe, f"{probe.strength:g}", _digits(probe.score), _digits(probe.low),
             _digits(probe.high), " ".join(map(_digits, probe.random)), _digits(probe.p_random), probe.verdict_random,
             _digits(probe.p_baseline), probe.verdict_baseline)
            for probe in each.probes
        ]  # fmt: skip
    weights = [
        (layer, _digits(weight), " ".join(_digits(float(other.weights[layer])) for other in random))
        for layer, weight in enumerate(mix.weights.tolist())
    ]
    gammas = ("gamma", _digits(mix.gamma), " ".join(_digits(other.gamma) for other in random))
    return [
        write_csv(folder / "layers.csv", heads, rows),
        write_csv(folder / "mix.csv", ("layer", "weight", "random"), [*weights, gammas]),
    ]


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.1f}"


def _digits(number: float | None) -> str:
    return "" if number is None else f"{number:.4f}"
