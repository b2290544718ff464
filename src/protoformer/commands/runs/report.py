"""`protoformer report`: comparison of runs with each other and with the papers' results."""

import argparse

HELP = "compare runs with each other and with the papers' results"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "folders", nargs="*", default=["outputs"], metavar="DIR", help="folders that contain runs (default: outputs)"
    )
    parser.add_argument("--csv", metavar="FILE", help="write one row per run to FILE")
    parser.add_argument("--markdown", metavar="FILE", help="write the printed tables to FILE")


def run(options: argparse.Namespace) -> None:
    # not at the top: slow to import
    from protoformer.reporting import report

    report.main(options.folders, csv=options.csv, markdown=options.markdown)
