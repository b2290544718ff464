"""`protoformer report sweep`: the trials of a sweep, the best of them, spread and importance."""

import argparse

HELP = "the trials of a sweep: table, best, spread over seeds, importance of parameters; as CSV and as a figure"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", metavar="DIR", help="the sweep's folder, such as outputs/sweeps/search")
    parser.add_argument("--csv", metavar="FILE", help="write one row per trial to FILE (default: DIR/trials.csv)")
    parser.add_argument(
        "--figure", metavar="FILE", help="draw the figure as FILE, .svg or .png (default: DIR/trials.svg)"
    )


def run(options: argparse.Namespace) -> None:
    # not at the top: slow to import
    from protoformer.reporting.sweep import main

    main.main(options.folder, csv=options.csv, figure=options.figure)
