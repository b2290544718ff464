"""`protoformer complexity`: Table 1 of the paper, counted and measured on this machine."""

import argparse
import shlex
from collections.abc import Sequence
from pathlib import Path

from protoformer.atomic import write_text
from protoformer.errors import ConfigurationError

HELP = "measure the cost of attention, recurrent and convolutional layers: formulas, FLOPs, time, memory"

N, D = (32, 64, 128, 256, 512, 1024, 2048), (64, 128, 256, 512)
QUICK_N, QUICK_D = (16, 32, 64, 128), (16, 32)


def main(
    n: Sequence[int] | None = None,
    d: Sequence[int] | None = None,
    out: str = "complexity",
    *,
    quick: bool = False,
    threads: int = 1,
) -> None:
    """Measure, print the tables, and write complexity.md, .csv and .svg into `out`. `quick` measures a small grid, in seconds.

    Raises ConfigurationError for invalid sizes and for a folder that cannot be made.
    """
    # not at the top: torch is slow to import
    import torch

    from protoformer.complexity.figure import draw
    from protoformer.complexity.page import markdown, tables, write_csv
    from protoformer.complexity.results import SizeGrid, measure_grid
    from protoformer.reporting.tables import print_table

    if threads < 1:
        raise ConfigurationError(f"--threads {threads}: at least 1")
    grid = SizeGrid(
        n=tuple(n or (QUICK_N if quick else N)),
        d=tuple(d or (QUICK_D if quick else D)),
        r=9 if quick else 33,
        path_n=16 if quick else 64,
        min_seconds=0.0 if quick else 0.1,
    )
    folder = Path(out).expanduser()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(f"--out {out}: the folder cannot be created ({error.strerror})") from None
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        results = measure_grid(grid)
    finally:
        torch.set_num_threads(before)
    for title, heads, rows in tables(results):
        print_table(heads, rows, f"{title}; {results.threads} thread(s)")
        print()
    write_text(folder / "complexity.md", markdown(results, _command(n, d, quick, threads)))
    write_csv(results, folder / "complexity.csv")
    draw(results, folder / "complexity.svg")
    print(f"{folder / 'complexity.md'}, .csv, .svg")


def _command(n: Sequence[int] | None, d: Sequence[int] | None, quick: bool, threads: int) -> str:
    """The command that measures the same."""
    words = ["protoformer", "complexity"]
    for name, sizes in (("--n", n), ("--d", d)):
        words += [name, *map(str, sizes)] if sizes else []
    words += ["--quick"] * quick + (["--threads", str(threads)] if threads != 1 else [])
    return shlex.join(words)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--n", nargs="+", type=int, metavar="N", help="lengths, in rising order (default: 32 to 2048)")
    parser.add_argument("--d", nargs="+", type=int, metavar="D", help="widths, in rising order (default: 64 to 512)")
    parser.add_argument("--threads", type=int, default=1, metavar="T", help="threads (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="small sizes, in seconds")
    parser.add_argument(
        "--out", default="complexity", metavar="DIR", help="where page, CSV and figure go (default: %(default)s)"
    )


def run(options: argparse.Namespace) -> None:
    main(options.n, options.d, options.out, quick=options.quick, threads=options.threads)
