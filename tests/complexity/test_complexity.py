"""Table 1: formulas against torch's counter, paths against the paper's, crossings and exponents of known curves."""

import csv
import math
from pathlib import Path

import pytest
import torch

from protoformer import cli
from protoformer.blocks.baselines.recurrent import UnidirectionalRNN
from protoformer.complexity.crossing import crossing, exponent
from protoformer.complexity.kinds import KINDS, Kind, Sizes
from protoformer.complexity.measuring import counted, longest_path, measured
from protoformer.complexity.table import Found, Grid

BY_NAME = {kind.name: kind for kind in KINDS}
ATTENTION, LSTM = BY_NAME["self-attention"], BY_NAME["recurrent (LSTM)"]
FLOPS = {  # a multiplication and an addition are two
    "self-attention": lambda n, d, k: 8 * n * d * d + 4 * n * n * d,
    "recurrent (LSTM)": lambda n, d, k: 16 * n * d * d,
    "convolutional": lambda n, d, k: 2 * k * n * d * d,
    "convolutional, dilated": lambda n, d, k: 2 * k * n * d * d,
    "convolutional, separable": lambda n, d, k: 2 * k * n * d + 2 * n * d * d,
}


@pytest.mark.parametrize("name", FLOPS)
@pytest.mark.parametrize(("n", "d", "k"), [(24, 16, 3), (48, 8, 5), (17, 64, 7)])
def test_counted_flops_are_the_formulas(name: str, n: int, d: int, k: int) -> None:
    edge = 2 * (k - 1) * d if name == "convolutional, separable" else 0  # zeros beside the sequence are read by no one
    assert counted(BY_NAME[name], Sizes(n, d, k)) == pytest.approx(FLOPS[name](n, d, k), abs=edge)


def test_restricted_attention_costs_its_band_and_grows_with_n() -> None:
    kind = BY_NAME["self-attention, restricted"]
    whole, own = ({n: counted(each, Sizes(n, 16, r=33)) for n in (1024, 2048)} for each in (ATTENTION, kind))
    without = {n: own[n] - kind.projections(Sizes(n, 16)) for n in own}
    assert without[2048] / without[1024] == pytest.approx(2, rel=0.05)
    assert own[2048] < whole[2048] / 5
    assert without[2048] >= 4 * 33 * 2048 * 16 * 0.95  # no less than the band itself


@pytest.mark.parametrize(("n", "k"), [(9, 2), (27, 3), (28, 3), (20, 5)])
def test_paths_are_the_papers(n: int, k: int) -> None:
    """Exactly: 1, n, n/k as (n - 1)/(k - 1), log_k n, n/r as (n - 1)/(r - 1), each rounded up."""
    r = 4
    wanted = {
        "self-attention": 1,
        "recurrent (LSTM)": n,
        "convolutional": math.ceil((n - 1) / (k - 1)),
        "convolutional, dilated": math.ceil(math.log(n, k) - 1e-9),
        "convolutional, separable": math.ceil((n - 1) / (k - 1)),
        "self-attention, restricted": math.ceil((n - 1) / (r - 1)),
    }
    assert {name: longest_path(kind, n, k, r) for name, kind in BY_NAME.items()} == wanted


def test_a_kind_that_connects_nothing_is_told() -> None:
    alone = Kind("alone", "", "", "", *(lambda s: 1,) * 4, lambda s, number, causal: PerPosition())
    with pytest.raises(RuntimeError, match="alone: position 5 sees nothing of position 0"):
        longest_path(alone, 6)


class PerPosition(torch.nn.Linear):
    def __init__(self) -> None:
        super().__init__(8, 8)

    def forward(self, x: torch.Tensor, layout: object) -> torch.Tensor:
        return super().forward(x)


def test_measured_numbers_are_of_one_sequence() -> None:
    one, four = (measured(ATTENTION, Sizes(32, 16), batch=batch, least=0.0) for batch in (1, 4))
    assert one.flops == four.flops == FLOPS["self-attention"](32, 16, 3)
    assert one.flops_without_projections == 4 * 32 * 32 * 16
    assert four.kept == pytest.approx(one.kept, rel=0.1)
    assert one.kept >= 32 * 32 * 4  # the softmax's rows, of one head
    assert 0 < four.seconds < 1


def test_what_is_kept_leaves_the_weights_out() -> None:
    """A recurrence keeps states for each position; its weights, ten times as much here, are its own."""
    layer = UnidirectionalRNN(64)
    weights = sum(p.numel() for p in layer.parameters()) * 4
    kept = measured(LSTM, Sizes(4, 64), least=0.0).kept
    assert 4 * 64 * 4 <= kept < weights / 2


def test_exponents_and_crossings_of_known_curves() -> None:
    n = [16, 32, 64, 128, 256]
    assert exponent(n, [3 * size**1.7 for size in n]) == pytest.approx(1.7)
    assert exponent(n[:2], [5.0, 10.0]) == pytest.approx(1.0)
    square, line = [float(size**2) for size in n], [100.0 * size for size in n]
    assert crossing(n, square, line) == pytest.approx(100)
    assert crossing(n, line, square) is None
    assert crossing(n, line, [1.0] * 5) == 16
    assert crossing(n[:3], square[:3], line[:3]) is None
    noisy = [2.0, 0.5, 2.0, 4.0, 8.0]  # the last time that it goes over
    assert 32 < crossing(n, noisy, [1.0] * 5) < 64


def test_an_lstm_crosses_at_2_d_by_counted_flops() -> None:
    """With projections and without; the formula says d."""
    grid = Grid(n=(16, 32, 64, 128), d=(16, 32))
    cells = {
        (kind.name, n, d): measured(kind, Sizes(n, d), batch=1, least=0.0, repeats=1)
        for kind in (ATTENTION, LSTM) for n in grid.n for d in grid.d
    }  # fmt: skip
    for one in Found(grid, 1, cells, {}).crossings():
        assert (one.formula, one.flops, one.flops_without_projections) == (one.d, 2 * one.d, 2 * one.d)


def test_a_gru_crosses_at_d_with_projections_and_at_1_5_d_without() -> None:
    from torch.utils.flop_counter import FlopCounterMode

    n, d = 12, 16
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        torch.nn.GRU(d, d, batch_first=True)(torch.zeros(1, n, d))
    assert counter.get_total_flops() == 12 * n * d * d
    assert FLOPS["self-attention"](d, d, 3) == 12 * d * d * d
    assert 4 * (1.5 * d) ** 2 * d == 6 * (1.5 * d) * d * d


def test_the_command_leaves_tables_figure_and_csv(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["complexity", "--n", "8", "16", "--d", "8", "16", "--quick", "--out", str(tmp_path / "found")]
    assert cli.main(words) == 0
    said = capsys.readouterr()
    assert "1 thread(s)" in said.out
    assert "self-attention, restricted" in said.out
    assert "[6/6] self-attention, restricted, d = 16" in said.err
    rows = list(csv.DictReader((tmp_path / "found" / "complexity.csv").open()))
    assert len(rows) == 6 * 2 * 2
    one = next(row for row in rows if (row["kind"], row["n"], row["d"]) == ("self-attention", "16", "8"))
    assert int(one["formula_operations"]) == 16 * 16 * 8
    assert int(one["flops"]) == FLOPS["self-attention"](16, 8, 3)
    assert float(one["seconds"]) > 0
    page = (tmp_path / "found" / "complexity.md").read_text()
    assert "`protoformer complexity --n 8 16 --d 8 16 --quick`" in page
    assert "| 8 | 8 (1 d) | 16 (2 d) | 16 (2 d) |" in page
    figure = (tmp_path / "found" / "complexity.svg").read_text()
    assert figure.count("<svg") == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--n", "16"], "--n 16: two sizes or more"),
        (["--n", "1", "16"], "--n 1 16: two sizes or more, each at least 2"),
        (["--n", "32", "16"], "in rising order"),
        (["--d", "0", "16"], "--d 0 16: two sizes or more, each at least 2"),
        (["--d", "64", "100"], "--d 100: over 64 a multiple of 64"),
        (["--threads", "0"], "--threads 0: at least 1"),
        (["--out", "/dev/null/there"], "--out /dev/null/there: no folder can be made there"),
    ],
)
def test_what_cannot_be_measured_is_told(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["complexity", *words]) == 2
    assert message in capsys.readouterr().err
