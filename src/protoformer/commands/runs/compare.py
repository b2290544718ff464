"""`protoformer compare`: a paired bootstrap test between two groups of runs, over their predictions."""

import argparse

HELP = "paired bootstrap test between two groups of runs, over their predictions"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", nargs="+", metavar="RUN", help="run folders of one setting (its seeds)")
    parser.add_argument(
        "--with", nargs="+", required=True, dest="others", metavar="RUN", help="run folders of the other setting"
    )
    parser.add_argument(
        "--resamples", type=int, default=10_000, metavar="N", help="of the bootstrap (default: %(default)s)"
    )


def run(options: argparse.Namespace) -> None:
    from protoformer.reporting import compare

    compare.main(options.runs, options.others, options.resamples)
