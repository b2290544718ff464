"""`protoformer plan`: what a run would cost: parameters, FLOPs, memory, steps, time; without data."""

import argparse

HELP = "what a run would cost: parameters, FLOPs, memory, steps, time; without data"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "overrides", nargs="+", metavar="KEY=VALUE", help="as train.py takes them (model=bert task=glue/rte)"
    )
    parser.add_argument("--config-dir", metavar="DIR", help="a folder with further options, or with its own train.yaml")


def run(options: argparse.Namespace) -> None:
    from protoformer.planning import plan

    plan.main(options.overrides)
