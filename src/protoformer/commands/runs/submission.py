"""`protoformer submission`: predictions as the zip that a benchmark's server takes."""

import argparse

HELP = "predictions as the zip that a benchmark's server takes"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("suite", choices=("glue",), help="whose server the files are for")
    parser.add_argument("runs", nargs="+", metavar="RUN", help="run folders, one a task")
    missing = parser.add_mutually_exclusive_group()
    missing.add_argument("--partial", action="store_true", help="write a zip although tasks or rows are missing")
    missing.add_argument("--fill", action="store_true", help="give every row of a missing task the same answer")
    parser.add_argument(
        "--out", default="submission.zip", metavar="FILE", help="the zip to write (default: %(default)s)"
    )


def run(options: argparse.Namespace) -> None:
    from protoformer.reporting import submission

    submission.main(options.runs, options.out, partial=options.partial, fill=options.fill)
