"""Table 1: formulas against torch's counter, paths against the paper's, crossovers and exponents of known curves."""

import csv
import math
from pathlib import Path

import pytest
import torch

from protoformer import cli
from protoformer.blocks.baselines.recurrent import UnidirectionalRNN
from protoformer.complexity.crossover import crossover, fit_exponent
from protoformer.complexity.layer_types import LAYER_TYPES, LayerSizes, LayerType
from protoformer.complexity.measure import count_flops, longest_path, measure_layer
from protoformer.complexity.results import Results, SizeGrid

BY_NAME = {layer_type.name: layer_type for layer_type in LAYER_TYPES}
ATTENTION, LSTM = BY_NAME["self-attention"], BY_NAME["recurrent (LSTM)"]
FLOPS = {  # a multiplication and an addition count as two
    "self-attention": lambda n, d, k: 8 * n * d * d + 4 * n * n * d,
    "recurrent (LSTM)": lambda n, d, k: 16 * n * d * d,
    "convolutional": lambda n, d, k: 2 * k * n * d * d,
    "convolutional, dilated": lambda n, d, k: 2 * k * n * d * d,
    "convolutional, separable": lambda n, d, k: 2 * k * n * d + 2 * n * d * d,
}


@pytest.mark.parametrize("name", FLOPS)
@pytest.mark.parametrize(("n", "d", "k"), [(24, 16, 3), (48, 8, 5), (17, 64, 7)])
def test_counted_flops_equal_the_formulas(name: str, n: int, d: int, k: int) -> None:
    edge = (
        2 * (k - 1) * d if name == "convolutional, separable" else 0
    )  # the counter leaves out products with zero padding
    assert count_flops(BY_NAME[name], LayerSizes(n, d, k)) == pytest.approx(FLOPS[name](n, d, k), abs=edge)


def test_restricted_attention_is_linear_in_n() -> None:
    layer_type = BY_NAME["self-attention, restricted"]
    dense, banded = (
        {n: count_flops(each, LayerSizes(n, 16, r=33)) for n in (1024, 2048)} for each in (ATTENTION, layer_type)
    )
    without = {n: banded[n] - layer_type.projections(LayerSizes(n, 16)) for n in banded}
    assert without[2048] / without[1024] == pytest.approx(2, rel=0.05)
    assert banded[2048] < dense[2048] / 5
    assert without[2048] >= 4 * 33 * 2048 * 16 * 0.95  # at least the band itself


@pytest.mark.parametrize(("n", "k"), [(9, 2), (27, 3), (28, 3), (20, 5)])
def test_path_lengths_equal_the_papers(n: int, k: int) -> None:
    """Exactly: 1, n, n/k as (n - 1)/(k - 1), log_k n, n/r as (n - 1)/(r - 1), each rounded up."""
    r = 4
    expected = {
        "self-attention": 1,
        "recurrent (LSTM)": n,
        "convolutional": math.ceil((n - 1) / (k - 1)),
        "convolutional, dilated": math.ceil(math.log(n, k) - 1e-9),
        "convolutional, separable": math.ceil((n - 1) / (k - 1)),
        "self-attention, restricted": math.ceil((n - 1) / (r - 1)),
    }
    assert {name: longest_path(layer_type, n, k, r) for name, layer_type in BY_NAME.items()} == expected


def test_layer_that_connects_no_positions() -> None:
    unconnected = LayerType("unconnected", "", "", "", *(lambda s: 1,) * 4, lambda s, index, causal: PerPosition())
    with pytest.raises(RuntimeError, match="unconnected: position 5 does not depend on position 0"):
        longest_path(unconnected, 6)


class PerPosition(torch.nn.Linear):
    def __init__(self) -> None:
        super().__init__(8, 8)

    def forward(self, x: torch.Tensor, layout: object) -> torch.Tensor:
        return super().forward(x)


def test_measurements_are_of_one_sequence() -> None:
    one, four = (measure_layer(ATTENTION, LayerSizes(32, 16), batch=batch, min_seconds=0.0) for batch in (1, 4))
    assert one.flops == four.flops == FLOPS["self-attention"](32, 16, 3)
    assert one.flops_without_projections == 4 * 32 * 32 * 16
    assert four.saved_bytes == pytest.approx(one.saved_bytes, rel=0.1)
    assert one.saved_bytes >= 32 * 32 * 4  # the softmax's rows, of one head
    assert 0 < four.seconds < 1


def test_saved_bytes_leave_out_the_weights() -> None:
    """A recurrence saves states of each position; its weights, ten times as much here, are not counted."""
    layer = UnidirectionalRNN(64)
    weights = sum(p.numel() for p in layer.parameters()) * 4
    saved = measure_layer(LSTM, LayerSizes(4, 64), min_seconds=0.0).saved_bytes
    assert 4 * 64 * 4 <= saved < weights / 2


def test_exponents_and_crossovers_of_known_curves() -> None:
    n = [16, 32, 64, 128, 256]
    assert fit_exponent(n, [3 * size**1.7 for size in n]) == pytest.approx(1.7)
    assert fit_exponent(n[:2], [5.0, 10.0]) == pytest.approx(1.0)
    square, line = [float(size**2) for size in n], [100.0 * size for size in n]
    assert crossover(n, square, line) == pytest.approx(100)
    assert crossover(n, line, square) is None
    assert crossover(n, line, [1.0] * 5) == 16
    assert crossover(n[:3], square[:3], line[:3]) is None
    noisy = [2.0, 0.5, 2.0, 4.0, 8.0]  # the last crossing counts
    assert 32 < crossover(n, noisy, [1.0] * 5) < 64


def test_lstm_crossover_is_2d_by_counted_flops() -> None:
    """With projections and without; the formula says d."""
    grid = SizeGrid(n=(16, 32, 64, 128), d=(16, 32))
    measurements = {
        (layer_type.name, n, d): measure_layer(layer_type, LayerSizes(n, d), batch=1, min_seconds=0.0, repeats=1)
        for layer_type in (ATTENTION, LSTM) for n in grid.n for d in grid.d
    }  # fmt: skip
    for crossing in Results(grid, 1, measurements, {}).crossovers():
        assert (crossing.formula, crossing.flops, crossing.flops_without_projections) == (
            crossing.d,
            2 * crossing.d,
            2 * crossing.d,
        )


def test_gru_crossover_is_d_with_projections_and_1_5_d_without() -> None:
    from torch.utils.flop_counter import FlopCounterMode

    n, d = 12, 16
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        torch.nn.GRU(d, d, batch_first=True)(torch.zeros(1, n, d))
    assert counter.get_total_flops() == 12 * n * d * d
    assert FLOPS["self-attention"](d, d, 3) == 12 * d * d * d
    assert 4 * (1.5 * d) ** 2 * d == 6 * (1.5 * d) * d * d


def test_command_writes_page_figure_and_csv(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["complexity", "--n", "8", "16", "--d", "8", "16", "--quick", "--out", str(tmp_path / "results")]
    assert cli.main(arguments) == 0
    captured = capsys.readouterr()
    assert "1 thread(s)" in captured.out
    assert "self-attention, restricted" in captured.out
    assert "[6/6] self-attention, restricted, d = 16" in captured.err
    rows = list(csv.DictReader((tmp_path / "results" / "complexity.csv").open()))
    assert len(rows) == 6 * 2 * 2
    attention = next(row for row in rows if (row["layer_type"], row["n"], row["d"]) == ("self-attention", "16", "8"))
    assert int(attention["formula_operations"]) == 16 * 16 * 8
    assert int(attention["flops"]) == FLOPS["self-attention"](16, 8, 3)
    assert float(attention["seconds"]) > 0
    page = (tmp_path / "results" / "complexity.md").read_text()
    assert "`protoformer complexity --n 8 16 --d 8 16 --quick`" in page
    assert "| 8 | 8 (1 d) | 16 (2 d) | 16 (2 d) |" in page
    figure = (tmp_path / "results" / "complexity.svg").read_text()
    assert figure.count("<svg") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--n", "16"], "--n 16: two sizes or more"),
        (["--n", "1", "16"], "--n 1 16: two sizes or more, each at least 2"),
        (["--n", "32", "16"], "in rising order"),
        (["--d", "0", "16"], "--d 0 16: two sizes or more, each at least 2"),
        (["--d", "64", "100"], "--d 100: above 64 a multiple of 64"),
        (["--threads", "0"], "--threads 0: at least 1"),
        (["--out", "/dev/null/there"], "--out /dev/null/there: the folder cannot be created"),
    ],
)
def test_invalid_arguments(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["complexity", *arguments]) == 2
    assert message in capsys.readouterr().err
