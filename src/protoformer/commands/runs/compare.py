"""`protoformer compare`: significance of the difference between two groups of runs."""

import argparse

HELP = "test whether one group of runs is better than another (paired bootstrap over examples)"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", nargs="+", metavar="RUN", help="run folders of the first group (for example its seeds)")
    parser.add_argument(
        "--with", nargs="+", required=True, dest="others", metavar="RUN", help="run folders of the second group"
    )
    parser.add_argument(
        "--resamples", type=int, default=10_000, metavar="N", help="number of bootstrap samples (default: %(default)s)"
    )


def run(options: argparse.Namespace) -> None:
    # not at the top: slow to import
    from protoformer.reporting import compare

    compare.main(options.runs, options.others, options.resamples)
