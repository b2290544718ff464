"""`protoformer probe ablate`: what a task's score loses without attention heads."""

import argparse

from protoformer.errors import ConfigurationError

HELP = "what a run's score loses without some of its attention heads: those named, or each, then all in order of importance"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="a run folder")
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="KEY=VALUE",
        help="as of evaluate: another task, data or split (task.splits.validation=validation[:200])",
    )
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument(
        "--heads",
        nargs="+",
        metavar="LAYER-HEAD",
        help="without these heads together, such as 3-9 5-1; of an encoder-decoder encoder:3-9, decoder:1-2, cross:2-4",
    )
    which.add_argument(
        "--each",
        action="store_true",
        help="without each head alone, then without more and more, the least important by the gradient of the loss first",
    )
    parser.add_argument(
        "--values",
        choices=["mean", "zero"],
        default="mean",
        help="what stands for the output of a head that is left out: its mean over training tokens (default), or zeros",
    )
    parser.add_argument(
        "--examples",
        type=int,
        default=500,
        metavar="N",
        help="training examples for means and importance (default: %(default)s)",
    )
    parser.add_argument(
        "--syntactic",
        metavar="FILE",
        help="with --each: relations.TREEBANK.csv of `probe heads --out`: how many of its heads are among those that cost most",
    )
    parser.add_argument("--out", metavar="DIR", help="with --each: write ablation.csv, pruning.csv and a figure there")


def run(options: argparse.Namespace) -> None:
    # not at the top: slow to import
    from protoformer.commands.runs.evaluate import words_of_evaluation
    from protoformer.config.compose import compose
    from protoformer.inference.ablation import main

    for name, value in (("--syntactic", options.syntactic), ("--out", options.out)):
        if options.heads is not None and value is not None:
            raise ConfigurationError(f"{name} {value}: goes with --each; what --heads computes is printed alone")
    if options.heads and all("=" in word for word in options.heads):
        raise ConfigurationError("--heads names no head, such as 3-9")
    heads = options.heads and [word for word in options.heads if "=" not in word]
    keys = [word for word in options.heads or () if "=" in word]  # typed behind the heads
    config = compose(words_of_evaluation(options.run, [*options.overrides, *keys], trains=True))
    chosen = main.AblationOptions(heads, options.values, options.examples, options.syntactic, options.out)
    main.main(config, options.run, chosen)
