"""`protoformer export`: a run's model as a folder that other libraries can load."""

import argparse

HELP = "export a run's model, or published weights, to a folder that other libraries can load"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="a run folder, a Hugging Face folder, or a hub id")
    parser.add_argument("--to", choices=("hf",), default="hf", help="weights layout: Hugging Face (default)")
    parser.add_argument("out", metavar="DIR", help="the folder to write")


def run(options: argparse.Namespace) -> None:
    # not at the top: torch is slow to import
    from protoformer.inference import export

    export.main(options.run, options.to, options.out)
