"""`protoformer clean`: what can go from outputs and cache. It lists; --yes removes. No result is ever removed."""

import argparse
import os
from pathlib import Path

from protoformer.errors import ConfigurationError

HELP = "list, and with --yes remove, what unfinished and finished runs leave on the disk; never a result"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "folders", nargs="*", metavar="FOLDER", help="folders of runs (default: PROTOFORMER_OUTPUTS, or outputs)"
    )
    parser.add_argument("--yes", action="store_true", help="remove what is listed")
    parser.add_argument(
        "--cache", action="store_true", help="also caches of token ids and vocabularies that were not used for --days"
    )
    parser.add_argument("--days", type=float, default=30, metavar="N", help="for --cache (default: %(default)s)")


def run(options: argparse.Namespace) -> None:
    # not at the top: the overview of commands imports this file
    from protoformer.runs.leftovers import leftovers, remove, unused_caches

    folders = [Path(name) for name in options.folders or [os.environ.get("PROTOFORMER_OUTPUTS", "outputs")]]
    for folder in folders:
        if not folder.is_dir():
            raise ConfigurationError(f"{folder}: no such folder; name one that runs were written to")
    if options.days < 0:
        raise ConfigurationError(f"--days {options.days:g}: at least 0")
    listed = list({each.path.resolve(): each for folder in folders for each in leftovers(folder)}.values())
    if options.cache:
        home = Path(os.environ.get("HOME", "."))
        cache = Path(os.environ.get("PROTOFORMER_CACHE", home / ".cache" / "protoformer"))
        listed += unused_caches(cache, options.days)
    removed = 0
    for each in listed:
        gone = options.yes and remove(each)
        removed += each.size if gone else 0
        state = "" if not options.yes else "removed " if gone else "in use, kept "
        print(f"{_size(each.size):>10}  {state}{each.path}  ({each.why})")
    if not listed:
        print("nothing to remove")
    elif options.yes:
        print(f"{_size(removed):>10}  removed")
    else:
        print(f"{_size(sum(each.size for each in listed)):>10}  in all; nothing is removed without --yes")


def _size(count: int) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} B"
