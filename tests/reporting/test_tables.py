import io

import pytest
from rich.console import Console

from protoformer.reporting.tables import print_table

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
