"""`protoformer report data-size`: how dev scores depend on the number of training examples."""

import argparse

HELP = "dev scores over the number of training examples: mean, spread and interval over seeds; as CSV and as a figure"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folders", nargs="+", metavar="RUN", help="run folders, or folders that contain runs")
    parser.add_argument(
        "--metric", metavar="NAME", help="a metric of the dev set, such as f1 or matched/accuracy (default: the score)"
    )
    parser.add_argument(
        "--csv",
        metavar="FILE",
        help="write one row per model and size to FILE (default: data_size.csv in the first folder)",
    )
    parser.add_argument(
        "--figure",
        metavar="FILE",
        help="draw the figure as FILE, .svg or .png (default: data_size.svg in the first folder)",
    )


def run(options: argparse.Namespace) -> None:
    # not at the top: slow to import
    from protoformer.reporting.data_size import main

    main.main(options.folders, metric=options.metric, csv=options.csv, figure=options.figure)
