"""`protoformer prepare`: download and tokenise everything that a run needs.

For clusters whose compute nodes have no network: prepare on the login node, then run with HF_HUB_OFFLINE=1. All files
go to caches (HF_HOME for downloads, paths.cache for tokens), where the run and a second `prepare` find them.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from protoformer.commands.multirun import command_line
from protoformer.commands.parser import add_overrides
from protoformer.config.compose import compose
from protoformer.config.probes import probe_configs

HELP = "download weights, tokenizer and data, and tokenise, for a run without a network"

MEGABYTE = 1e6


def main(overrides: Sequence[str]) -> None:
    """Download weights, tokenizer and data of a run and tokenise its splits; print each with its commit and path."""
    config = compose(overrides)
    # not at the top: torch is slow to import
    from protoformer.assembly.initial_weights import InitialWeights
    from protoformer.assembly.instantiate import instantiate
    from protoformer.assembly.own_data import with_own_data

    source = instantiate(config, "source")
    tokenizer, config = _prepare_model(config, source)
    _prepare_data(config, source, tokenizer)
    for name, probe in probe_configs(config).items():
        _print("probe", name)
        source = instantiate(probe, "source")
        _prepare_data(
            {**with_own_data(probe, source, InitialWeights("scratch")), "model": config["model"]}, source, tokenizer
        )
    print(f"to run without a network:  HF_HUB_OFFLINE=1 {command_line(overrides)}")


def _prepare_model(config: dict[str, Any], source: Any) -> tuple[Any, dict[str, Any]]:
    """Fetch weights and tokenizer; gives the tokenizer, and the config with the model resolved. Unusable ones raise here."""
    # not at the top: torch is slow to import
    from protoformer.assembly.initial_weights import InitialWeights, find_initial_weights, read_run
    from protoformer.assembly.model import resolve_model
    from protoformer.assembly.own_data import with_own_data
    from protoformer.assembly.tokenizer import build_tokenizer
    from protoformer.models import weights

    if config["init_from"] == "auto" and not config["task"]["splits"].get("train"):
        _print("weights", "those of the trained run that init_from will name")
        initial = InitialWeights("scratch")
    else:
        initial = find_initial_weights(config)
        if initial.folder is None:
            _print("weights", "none: from scratch")
        elif initial.is_run:
            read_run(initial.folder)
            _print("weights", initial.source_name, _size(initial.folder / "checkpoints"), initial.folder)
        else:
            tensors = weights.read_state(initial.folder)
            _print("weights", initial.source_name, f"{len(tensors)} tensors, {_size(initial.folder)}", initial.folder)
    config = with_own_data(config, source, initial)
    tokenizer = build_tokenizer(config, initial, source)
    _print("tokenizer", tokenizer.origin, f"{tokenizer.vocab_size} tokens")
    return tokenizer, resolve_model(config, initial, tokenizer).in_config(config)


def _prepare_data(config: Mapping[str, Any], source: Any, tokenizer: Any) -> None:
    # not at the top: torch is slow to import
    from protoformer.assembly import build

    data: Any = build.build_datamodule(config, source, tokenizer)
    data.setup()
    for role, tables in data.tables.items():
        for name, table in tables.items():
            facts = [f"{len(table)} examples", f"{int(table.lengths.sum())} tokens", *data.log_lines(table)]
            _print(f"{role} {name}".strip(), table.stats["origin"], ", ".join(facts))
    for dataset, commit in getattr(source, "commits", {}).items():
        _print("data set", f"{dataset}@{commit}", source.cache_folders[dataset])
    _print("tokens", str(Path(config["paths"]["cache"]) / "tokens"))


def _print(what: str, *facts: object) -> None:
    print(f"{what + ':':<24}{' | '.join(str(fact) for fact in facts)}", flush=True)


def _size(folder: Path) -> str:
    """Of the files that stand in a folder itself."""
    total = sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
    return f"{total / MEGABYTE:.1f} MB"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_overrides(parser)


def run(options: argparse.Namespace) -> None:
    main(options.overrides)
