"""`protoformer plan`: estimated cost of a run: parameters, FLOPs, memory, steps, time; reads no data."""

import argparse
from collections.abc import Sequence

from protoformer.commands.parser import add_overrides
from protoformer.config.compose import compose

HELP = "estimate the cost of a run: parameters, FLOPs, memory, steps, time; reads no data"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_overrides(parser)


def run(options: argparse.Namespace) -> None:
    main(options.overrides)


def main(overrides: Sequence[str]) -> None:
    """Print the plan of a run. Raises ConfigurationError for what cannot be composed."""
    config = compose(overrides)
    # not at the top, and after the check: torch is slow to import
    from protoformer.planning import plan

    plan.print_plan(config)
