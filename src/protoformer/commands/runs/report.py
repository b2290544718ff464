"""`protoformer report`: comparison of runs with each other and with the papers' results."""

import argparse
from pathlib import Path

HELP = "compare runs with each other and with the papers' results"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "folders",
        nargs="*",
        default=["outputs"],
        metavar="DIR",
        help="folders that contain runs (default: outputs); `lm` before them: GPT-2's zero-shot tasks, run or not",
    )
    parser.add_argument("--csv", metavar="FILE", help="write one row per run to FILE")
    parser.add_argument("--markdown", metavar="FILE", help="write the printed tables to FILE")


def run(options: argparse.Namespace) -> None:
    # not at the top: slow to import
    from protoformer.reporting import report, zero_shot

    if options.folders[0] == zero_shot.TITLE and not Path(zero_shot.TITLE).is_dir():
        zero_shot.main(options.folders[1:], markdown=options.markdown)
        return
    report.main(options.folders, csv=options.csv, markdown=options.markdown)
