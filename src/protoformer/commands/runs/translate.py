"""`protoformer translate`: lines of text by a trained translation run, in their order."""

import argparse

HELP = "lines of text by a trained translation run, in their order"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="the folder of a translation run")
    parser.add_argument("--file", metavar="FILE", help="text, a line for each sentence (default: standard input)")
    parser.add_argument("--out", metavar="FILE", help="the file to write (default: standard output)")
    parser.add_argument(
        "--beams", type=int, default=4, metavar="N", help="1: the likeliest token each time (default: 4)"
    )
    parser.add_argument("--alpha", type=float, default=0.6, help="of the length penalty ((5 + length) / 6)^alpha (0.6)")
    parser.add_argument("--extra", type=int, default=50, metavar="N", help="tokens more than the source has (50)")
    parser.add_argument("--n-best", type=int, metavar="N", help="write N ways of each: number ||| text ||| score")


def run(options: argparse.Namespace) -> None:
    from protoformer.inference import translate

    names = ("file", "out", "beams", "alpha", "extra", "n_best")
    translate.main(options.run, translate.Options(**{name: getattr(options, name) for name in names}))
