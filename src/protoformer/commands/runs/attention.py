"""`protoformer attention`: a page that shows what each head looks at, and which heads follow what."""

import argparse

HELP = "a page that shows what each head of a model looks at in a text"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="RUN_OR_WEIGHTS", help="a run folder, or weights: a folder or a hub id")
    parser.add_argument("--text", required=True, metavar="A", help="the text to look at")
    parser.add_argument("--text-b", metavar="B", help="the second text of a pair")
    parser.add_argument("--out", required=True, metavar="FILE", help="the page to write, such as page.html")
    parser.add_argument("--layers", type=_numbers, default=[], metavar="1,2", help="some of the layers (default: all)")
    parser.add_argument(
        "--padding", type=int, default=2, metavar="N", help="padding behind the text, to see its mask (default: 2)"
    )


def _numbers(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no list of numbers, such as 1,2") from None


def run(options: argparse.Namespace) -> None:
    from protoformer.inference import attention

    wanted = attention.Looking(options.text, options.text_b, options.layers, options.padding)
    attention.main(options.source, wanted, options.out)
