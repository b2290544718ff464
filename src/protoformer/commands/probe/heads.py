"""`protoformer probe heads`: which attention head finds which arc of a treebank's trees."""

import argparse

from protoformer.commands.probe.numbers import natural_number, positive_number
from protoformer.errors import ConfigurationError

AT_LEAST = 100
HELP = (
    "hold each attention head against the trees of a treebank: relations, trees, a linear probe, random models beside"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="RUN_OR_WEIGHTS", help="a run folder, or weights: a folder or a hub id")
    parser.add_argument(
        "--treebank",
        metavar="FILE",
        help="a treebank in CoNLL-U that heads are chosen on, or sample, that of the built-in sample; without, of decoders: "
        "previous-token, duplicate-token and induction heads on repeated random tokens",
    )
    parser.add_argument(
        "--report-on",
        nargs="+",
        default=[],
        metavar="FILE",
        help="treebanks that the numbers are of (default: every second sentence of --treebank; heads are chosen on the others)",
    )
    parser.add_argument(
        "--side",
        choices=["source", "target", "cross"],
        help="of an encoder-decoder: the encoder's heads (default), the decoder's, or those from target to source",
    )
    parser.add_argument(
        "--special-tokens", action="store_true", help="a word that attends to a special token most finds nothing"
    )
    parser.add_argument(
        "--random",
        type=natural_number,
        default=3,
        metavar="N",
        help="random models of the same shape (default: %(default)s)",
    )
    parser.add_argument(
        "--at-least",
        type=natural_number,
        default=AT_LEAST,
        metavar="N",
        help="arcs that a relation must have (default: %(default)s)",
    )
    parser.add_argument(
        "--sentences", type=positive_number, metavar="N", help="read the first N sentences of each treebank alone"
    )
    parser.add_argument("--out", metavar="DIR", help="write tables as CSV, a figure and a page of sentences there")


def run(options: argparse.Namespace) -> None:
    if options.treebank is None:
        _refuse_options_of_treebanks(options)
    # not at the top: torch is slow to import
    from protoformer.inference.syntax import main, repeated

    if options.treebank is None:
        repeated.main(options.source, options.random, options.out)
        return
    main.main(
        options.source,
        main.ProbeRequest(
            options.treebank,
            options.report_on,
            options.side,
            options.random,
            options.at_least,
            options.sentences,
            options.special_tokens,
            options.out,
        ),
    )


def _refuse_options_of_treebanks(options: argparse.Namespace) -> None:
    """Raises ConfigurationError for an option that random tokens would leave unread."""
    given = {
        "--report-on": options.report_on, "--side": options.side, "--special-tokens": options.special_tokens,
        "--sentences": options.sentences, "--at-least": options.at_least != AT_LEAST,
    }  # fmt: skip
    if name := next((name for name, value in given.items() if value), None):
        raise ConfigurationError(f"{name} goes with --treebank: name a treebank, or sample")
