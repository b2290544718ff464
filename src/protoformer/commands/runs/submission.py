"""`protoformer submission`: zip file for a benchmark's evaluation server."""

import argparse

HELP = "write the zip file for a benchmark's evaluation server from test predictions"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("suite", choices=("glue",), help="the benchmark")
    parser.add_argument("runs", nargs="+", metavar="RUN", help="run folders, one per task")
    missing = parser.add_mutually_exclusive_group()
    missing.add_argument("--partial", action="store_true", help="write the zip even if tasks or rows are missing")
    missing.add_argument("--fill", action="store_true", help="write a constant prediction for missing tasks")
    parser.add_argument(
        "--out", default="submission.zip", metavar="FILE", help="the zip to write (default: %(default)s)"
    )


def run(options: argparse.Namespace) -> None:
    # not at the top: slow to import
    from protoformer.reporting import submission

    submission.main(options.runs, options.out, partial=options.partial, fill=options.fill)
