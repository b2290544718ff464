"""`protoformer attention`: a page of the attention weights of all heads for a text."""

import argparse

HELP = "write an interactive page of the attention weights of every head for a text"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="RUN_OR_WEIGHTS", help="a run folder, or weights: a folder or a hub id")
    parser.add_argument("--text", required=True, metavar="A", help="the text")
    parser.add_argument("--text-b", metavar="B", help="the second text of a pair")
    parser.add_argument("--out", required=True, metavar="FILE", help="the page to write, such as page.html")
    parser.add_argument("--layers", type=_numbers, default=[], metavar="1,2", help="layers to show (default: all)")
    parser.add_argument(
        "--padding",
        type=int,
        default=2,
        metavar="N",
        help="number of padding tokens after the text, to show their mask (default: 2)",
    )
    parser.add_argument(
        "--steps",
        type=int,
        metavar="N",
        help="steps of integrated gradients, 0: none (default: 64, where they take half a minute or less)",
    )
    parser.add_argument(
        "--target",
        metavar="LABEL_OR_TOKEN",
        help="the label or token whose logit integrated gradients attribute to the text (default: the predicted one)",
    )


def _numbers(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of numbers such as 1,2") from None


def run(options: argparse.Namespace) -> None:
    # not at the top: torch is slow to import
    from protoformer.inference import attention

    request = attention.AttentionRequest(
        options.text, options.text_b, options.layers, options.padding, options.steps, options.target
    )
    attention.main(options.source, request, options.out)
