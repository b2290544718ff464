"""`protoformer compare`: significance of the difference between two groups of runs."""

import argparse

HELP = "test whether one group of runs is better than another, over other examples, other seeds, or both"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "runs",
        nargs="+",
        metavar="RUN",
        help="run folders of the first group (for example its seeds); or files of another system's predictions, SPLIT.jsonl, "
        "in the form of a run's predictions/SPLIT.jsonl",
    )
    parser.add_argument(
        "--with",
        nargs="+",
        required=True,
        dest="others",
        metavar="RUN",
        help="run folders, or files of predictions, of the second group; at least one group holds runs",
    )
    parser.add_argument(
        "--resamples", type=int, default=10_000, metavar="N", help="number of bootstrap samples (default: %(default)s)"
    )
    parser.add_argument(
        "--over",
        choices=["examples", "seeds", "both"],
        help="what could have been drawn otherwise (default: both where each side has several runs, else examples)",
    )
    parser.add_argument(
        "--clusters",
        metavar="COLUMN",
        help="column of what examples share that depend on each other (default: the passage of questions)",
    )


def run(options: argparse.Namespace) -> None:
    # not at the top: slow to import
    from protoformer.reporting.comparison import compare, table

    chosen = compare.Options(options.over, options.resamples, options.clusters)
    table.main(options.runs, options.others, chosen)
