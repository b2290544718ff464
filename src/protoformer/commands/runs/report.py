"""`protoformer report`: runs beside each other and beside the papers."""

import argparse

HELP = "runs beside each other and beside the papers"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "folders", nargs="*", default=["outputs"], metavar="DIR", help="folders of runs (default: outputs)"
    )
    parser.add_argument("--csv", metavar="FILE", help="write a row a run to FILE")
    parser.add_argument("--markdown", metavar="FILE", help="write the printed tables to FILE")


def run(options: argparse.Namespace) -> None:
    from protoformer.reporting import report

    report.main(options.folders, csv=options.csv, markdown=options.markdown)
