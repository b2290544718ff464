"""`protoformer probe layers`: linear probes of every layer of a frozen model on a task."""

import argparse

from protoformer.commands.probe.numbers import natural_number, positive_number

HELP = "fit a linear probe to every layer of a frozen model: a task's score by layer, beside random weights and a scalar mix"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="RUN_OR_WEIGHTS", help="a run folder, or weights: a folder or a hub id")
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="KEY=VALUE",
        help="task=TASK (of a run its own, where none is given) and keys of train, such as source=local source.root=DIR",
    )
    parser.add_argument(
        "--pool",
        choices=["head", "mean"],
        default="head",
        help="features: the token that the task's head reads (default), or the mean of all tokens",
    )
    parser.add_argument(
        "--random",
        type=natural_number,
        default=1,
        metavar="N",
        help="random models of the same shape (default: %(default)s)",
    )
    parser.add_argument(
        "--rows",
        type=positive_number,
        metavar="N",
        help="training rows, drawn at random (default: all, or as many as 512 MiB of features hold)",
    )
    parser.add_argument("--out", metavar="DIR", help="write layers.csv, mix.csv and a figure there")


def run(options: argparse.Namespace) -> None:
    # not at the top: slow to import
    from protoformer.commands.runs.evaluate import words_of_evaluation
    from protoformer.config.compose import compose
    from protoformer.inference.layers import main
    from protoformer.inference.layers.source_encoder import words_for_probes

    words = words_of_evaluation(options.source, options.overrides, trains=True)
    config = compose(words_for_probes(options.source, words))
    main.main(config, options.source, main.LayerProbeRequest(options.pool, options.random, options.rows, options.out))
