"""`protoformer plan`: estimated cost of a run: parameters, FLOPs, memory, steps, time; reads no data."""

import argparse
import math
from collections.abc import Sequence

from protoformer.commands.parser import add_overrides
from protoformer.config.compose import compose
from protoformer.errors import ConfigurationError

HELP = "estimate the cost of a run: parameters, FLOPs, memory, steps, time; reads no data"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_overrides(parser)
    parser.add_argument(
        "--tokens-per-second",
        type=float,
        metavar="N",
        help="time at this speed of all devices together, as runs report it",
    )
    parser.add_argument("--card", metavar="NAME", help="time on GPUs of this name, such as H100 or 'RTX 4090'")
    parser.add_argument("--mfu", type=float, metavar="F", help="fraction of the peak speed that training reaches")


def run(options: argparse.Namespace) -> None:
    main(options.overrides, tokens_per_s=options.tokens_per_second, card=options.card, mfu=options.mfu)


def main(
    overrides: Sequence[str], *, tokens_per_s: float | None = None, card: str | None = None, mfu: float | None = None
) -> None:
    """Print the plan of a run. Raises ConfigurationError for what cannot be composed, and for a speed that cannot be."""
    if tokens_per_s is not None and (card is not None or mfu is not None):
        raise ConfigurationError("--tokens-per-second is a speed by itself: it goes without --card and --mfu")
    if tokens_per_s is not None and not 0 < tokens_per_s < math.inf:
        raise ConfigurationError(f"--tokens-per-second {tokens_per_s:g}: above 0")
    if mfu is not None and not 0 < mfu <= 1:
        raise ConfigurationError(f"--mfu {mfu:g}: a fraction, above 0 and at most 1")
    config = compose(overrides)
    # not at the top, and after the check: torch is slow to import
    from protoformer.planning import plan, speed

    plan.print_plan(config, speed.Speed(tokens_per_s, card, mfu))
