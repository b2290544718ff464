"""`protoformer prepare`: all that a run needs from the network, fetched and tokenised once.

For clusters whose compute nodes have no network: prepare on the login node, then run with HF_HUB_OFFLINE=1. Everything
lies in caches that the run finds again (HF_HOME for what was fetched, paths.cache for tokens), so a second time is quick.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from protoformer.commands.train import rerun
from protoformer.config.compose import compose

HELP = "fetch weights, tokenizer and data, and tokenise, for a run without a network"

MEGABYTE = 1e6


def main(overrides: Sequence[str]) -> None:
    """Fetch weights, tokenizer and data of a run and tokenise its splits; prints what was had, of which commit, and where."""
    config = compose(overrides)
    from protoformer.assembly.instantiate import instantiate

    source = instantiate(config, "source")
    words, sizes = _model(config, source)
    _data(config, source, words, sizes)
    print(f"now without a network:  HF_HUB_OFFLINE=1 {rerun(overrides)}")


def _model(config: dict[str, Any], source: Any) -> tuple[Any, dict[str, Any]]:
    """Weights and tokenizer; gives the tokenizer and the builder's arguments. What is unusable is told here already."""
    from protoformer.assembly.initial_weights import Initial, initial, read_run
    from protoformer.assembly.model import real_sizes
    from protoformer.assembly.tokenizer import tokenizer
    from protoformer.models import weights

    if config["init_from"] == "auto" and not config["task"]["splits"].get("train"):
        _say("weights", "those of the trained run that init_from will name")
        start = Initial("scratch")
    else:
        start = initial(config)
        if start.folder is None:
            _say("weights", "none: from scratch")
        elif start.is_run:
            read_run(start.folder)
            _say("weights", start.origin, _size(start.folder / "checkpoints"), start.folder)
        else:
            tensors = weights.read_state(start.folder)
            _say("weights", start.origin, f"{len(tensors)} tensors, {_size(start.folder)}", start.folder)
    words = tokenizer(config, start, source)
    sizes = real_sizes(config, start, words)
    _say("tokenizer", words.origin, f"{words.vocab_size} words")
    return words, sizes


def _data(config: Mapping[str, Any], source: Any, words: Any, sizes: Mapping[str, Any]) -> None:
    from protoformer.assembly import build

    data: Any = build.datamodule(config, source, words, sizes)
    data.setup()
    for role, tables in data.tables.items():
        for name, table in tables.items():
            facts = [f"{len(table)} examples", f"{int(table.lengths.sum())} tokens", *data.log_lines(table)]
            _say(f"{role} {name}".strip(), table.stats["origin"], ", ".join(facts))
    for dataset, commit in getattr(source, "commits", {}).items():
        _say("data set", f"{dataset}@{commit}", source.places[dataset])
    _say("tokens", str(Path(config["paths"]["cache"]) / "tokens"))


def _say(what: str, *facts: object) -> None:
    print(f"{what + ':':<24}{' | '.join(str(fact) for fact in facts)}", flush=True)


def _size(folder: Path) -> str:
    """Of the files that stand in a folder itself."""
    total = sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
    return f"{total / MEGABYTE:.1f} MB"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "overrides", nargs="+", metavar="KEY=VALUE", help="as train.py takes them (model=bert task=glue/rte)"
    )
    parser.add_argument("--config-dir", metavar="DIR", help="a folder with further options, or with its own train.yaml")


def run(options: argparse.Namespace) -> None:
    main(options.overrides)
