"""`protoformer report scaling`: how losses and in-context scores of finished runs depend on size, tokens and shots."""

import argparse

HELP = "fit power laws to the losses of several sizes, predict the next size; scores over shots and size"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folders", nargs="+", metavar="RUN", help="run folders, or folders that contain runs")
    parser.add_argument(
        "--predict",
        metavar="SIZE",
        help="predict the loss of a size: parameters without embeddings (or tokens), or depth=8",
    )
    parser.add_argument("--record", metavar="FILE", help="write the prediction to FILE (JSON), for --check")
    parser.add_argument("--check", metavar="FILE", help="hold the given runs against the prediction in FILE")
    parser.add_argument(
        "--law",
        choices=("power", "irreducible"),
        help="L = (x_c / x)^alpha, or L = E + A / x^alpha (default: what predicts left-out points better; power below 5 sizes)",
    )
    parser.add_argument("--level", type=float, default=0.95, help="level of the intervals (default: %(default)s)")
    parser.add_argument("--figure", metavar="FILE", help="draw the figure as FILE, .svg or .png")
    parser.add_argument("--csv", metavar="FILE", help="write one row per run to FILE")


def run(options: argparse.Namespace) -> None:
    # not at the top: slow to import
    from protoformer.errors import UserError
    from protoformer.reporting.scaling import main

    if not 0 < options.level < 1:
        raise UserError(f"--level {options.level}: expected a number between 0 and 1, such as 0.95")
    main.main(
        options.folders,
        form=options.law,
        level=options.level,
        predict=options.predict,
        record=options.record,
        check=options.check,
        figure=options.figure,
        csv=options.csv,
    )
