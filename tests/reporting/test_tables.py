import io

import pytest
from rich.console import Console

from protoformer.reporting.tables import make_console, p_text, print_table

HEAD = ["recipe", "n", "score", "val/accuracy", "val/f1", "test/accuracy", "test/f1", "examples/s", ""]
ROW = ["lr=5e-05 batch_size=4 max_steps=3", "2", *["72.26 ± 4.97"] * 5, "13.3", "best on dev, 2 of 2 degenerate"]


@pytest.mark.parametrize("width", [80, 100, 120])
def test_table_of_two_metrics_and_a_test_set_fits_a_terminal_with_its_words_whole(width: int) -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=width, color_system=None)
    print_table(HEAD, [ROW], console=console, framed=True, right=HEAD[1:-1])
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert max(map(len, lines)) <= width
    words = " ".join(lines).replace("│", " ").replace("┃", " ").split()
    assert {"lr=5e-05", "batch_size=4", "max_steps=3", "±"} <= set(words)
    assert lines[-1].endswith("┘")


def test_a_wide_enough_console_keeps_padding_and_words(capsys: pytest.CaptureFixture[str]) -> None:
    """Few columns fit 80 columns as they are; where they do not, no word of a head or a note is broken."""
    for width, head in ((60, "│ metric"), (24, "┃metric")):
        console = Console(file=io.StringIO(), force_terminal=True, width=width, color_system=None)
        rows = [("val/f1", "84.00", "86.7", "3 degenerate")]
        print_table(("metric", "run", "published", "printed in"), rows, console=console, framed=True)
        text = console.file.getvalue()  # type: ignore[attr-defined]
        assert ("┃ metric ┃" in text) == (width == 60), head
        if width == 60:
            assert {"published", "degenerate"} <= set(text.replace("│", " ").replace("┃", " ").split())


@pytest.mark.parametrize(("columns", "width"), [("80", 80), ("200", 200), ("", 160), ("wide", 160), ("0", 160)])
def test_piped_tables_are_as_wide_as_columns_says(columns: str, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout", io.StringIO())
    monkeypatch.setenv("COLUMNS", columns)
    console = make_console()
    assert console.width == width
    print_table(HEAD, [ROW], console=console, framed=True)
    printed = max(map(len, console.file.getvalue().splitlines()))  # type: ignore[attr-defined]
    assert printed <= width


def test_a_plain_table_drops_its_line_before_it_breaks_a_word() -> None:
    """Ten columns of `protoformer list pairs` fit 80 columns on a terminal as they do in a pipe."""
    heads = ["kind (tasks)", "bert", "cnn", "gpt", "gpt2", "gpt3", "transformer", "rnn", "encoder"]
    rows = [["multiple_choice (15)", *["yes"] * 8]]
    text = {}
    for width in (80, 120):
        console = Console(file=io.StringIO(), force_terminal=True, width=width, color_system=None)
        print_table(heads, rows, console=console)
        text[width] = console.file.getvalue()  # type: ignore[attr-defined]
        assert max(map(len, text[width].splitlines())) <= width
        assert "multiple_choice (15)" in text[width]
        assert "transformer" in text[width]
    assert ("─" in text[120], "─" in text[80]) == (True, False)


def test_no_p_value_is_nothing() -> None:
    assert [p_text(p) for p in (1e-9, 0.00099, 0.001, 0.04951, 1.0)] == ["<0.001", "<0.001", "0.001", "0.050", "1.000"]
