"""`protoformer export`: a run's model as a folder that other libraries open."""

import argparse

HELP = "a run's model as a folder that other libraries open"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="a run folder")
    parser.add_argument("--to", choices=("hf",), default="hf", help="the layout: Hugging Face's (default)")
    parser.add_argument("out", metavar="DIR", help="the folder to write")


def run(options: argparse.Namespace) -> None:
    from protoformer.inference import export

    export.main(options.run, options.to, options.out)
