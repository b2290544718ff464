"""`protoformer predict`: predictions of a trained run for one input: labels, answers, choices, words for [MASK]."""

import argparse

HELP = "predict with a trained run: labels, answers, choices, words for [MASK]"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="a run folder")
    parser.add_argument(
        "--text", required=True, help="the text, or the question; a pretraining run fills in each [MASK]"
    )
    parser.add_argument("--pair", metavar="TEXT", help="the second text of a pair, or the context of a question")
    parser.add_argument(
        "--choice", action="append", default=[], metavar="TEXT", help="a choice; repeat for each choice"
    )
    parser.add_argument(
        "--top", type=int, default=5, metavar="N", help="how many predictions to print (default: %(default)s)"
    )


def run(options: argparse.Namespace) -> None:
    # not at the top: torch is slow to import
    from protoformer.inference import predict
    from protoformer.modules.queries import Query

    predict.main(options.run, Query(options.text, options.pair, options.choice, options.top))
