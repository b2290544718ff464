"""`protoformer compare`: how sure it is that some runs are better than others, by their predictions."""

import argparse

HELP = "how sure it is that some runs are better than others, by their predictions"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", nargs="+", metavar="RUN", help="run folders of one way (its seeds)")
    parser.add_argument("--with", nargs="+", required=True, dest="others", metavar="RUN", help="those of the other way")
    parser.add_argument(
        "--draws", type=int, default=10_000, metavar="N", help="of the bootstrap (default: %(default)s)"
    )


def run(options: argparse.Namespace) -> None:
    from protoformer.reporting import compare

    compare.main(options.runs, options.others, options.draws)
