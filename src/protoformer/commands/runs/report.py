"""`protoformer report`: comparison of runs with each other and with the papers' results."""

import argparse
from pathlib import Path

from protoformer.config.names.suggest import nearest
from protoformer.errors import UserError

HELP = "compare runs with each other and with the papers' results"
ZERO_SHOT = "lm"  # before the folders: the table of GPT-2's zero-shot tasks
OTHER_REPORTS = ("scaling", "data-size", "sweep")


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
    from protoformer.reporting import report

    if options.folders[0] == ZERO_SHOT and not Path(ZERO_SHOT).is_dir():
        from protoformer.reporting import zero_shot  # as above

        zero_shot.main(options.folders[1:], markdown=options.markdown)
        return
    first = options.folders[0]
    if not Path(first).exists() and (meant := nearest(first, OTHER_REPORTS)) is not None:
        raise UserError(f"no folder {first}; did you mean protoformer report {meant}?")
    report.main(options.folders, csv=options.csv, markdown=options.markdown)
