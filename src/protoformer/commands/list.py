"""`protoformer list` and `--help`: models, tasks, hardware and valid combinations, read from yaml and source without
imports."""

import argparse
import shutil
import textwrap
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from protoformer.config.annotations.signatures import members, signature
from protoformer.config.groups import (
    can,
    family,
    groups,
    heading,
    model,
    option,
    options,
    search_path,
)
from protoformer.config.names.suggest import advice
from protoformer.config.validate import OWN_DATA
from protoformer.errors import ConfigurationError

HELP = "list models, tasks and hardware, and their valid combinations"

Rows = tuple[Sequence[str], Sequence[Sequence[str]]]  # heads of the columns, cells
SECTIONS = ("models", "tasks", "hardware", "pairs")
KEYS = (
    ("recipe.lr recipe.batch_size recipe.epochs", "optimisation; batch_size is global, over ranks and micro-batches"),
    ("model.dropout model.norm ...", "any argument of the model's builder"),
    ("task.max_len", "longest sequence in tokens"),
    ("seed", "one number; in a sweep 1,2,3 or range(1,4)"),
    ("init_from", "auto, scratch, a hub id, a Hugging Face folder or a run folder"),
    ("hardware.devices hardware.precision", "1, 2, ... or all; fp32, tf32, bf16 or fp16"),
    ("trainer.limit_train_batches", "a number of batches, or a fraction of the epoch"),
    ("source.root", "the data folder of source=local"),
    ("force reuse", "start a new attempt; return the recorded result although the code has changed"),
    ("paths.outputs paths.cache", "also set by PROTOFORMER_OUTPUTS and PROTOFORMER_CACHE"),
)
EXAMPLES = (
    "experiment=demo",
    "model=bert task=glue/mnli",
    "model=bert_large task=glue/rte recipe.lr=2e-5 hardware=gpu_bf16",
    "model=bert init_from=path/to/folder task=glue/mrpc source=local source.root=path/to/data",
    "-m model=bert task=glue/rte seed=1,2,3 recipe.lr=2e-5,3e-5",
    "model=bert task=glue/mnli debug=fast",
)
FLAGS = (
    ("-m, --multirun", "run all combinations of comma-separated values"),
    ("-c, --cfg job|hydra|all", "print the composed config and exit; job: with all defaults"),
    ("-p, --package NODE", "with --cfg: a node of it alone, such as recipe"),
    ("--resolve", "with --cfg: values in the place of references to other keys"),
    ("--config-dir DIR", "a folder with further options; with its own train.yaml it replaces conf/"),
    ("-h, --help", "print this text; --help all: every key, as `protoformer settings` does"),
)


def usage(folders: Sequence[Path], program: str) -> str:
    """Help text of train.py: usage, groups with their options, most used keys, examples."""
    width = max(60, min(shutil.get_terminal_size((110, 24)).columns, 120))
    parts = [
        f"usage: {program} [flags] model=NAME task=NAME [group=option ...] [key=value ...]",
        "Train, fine-tune or test a model. Repeating the command continues the run or returns its result.",
        _section(
            "groups and their options", ((name, ", ".join(options(name, folders))) for name in _shown(folders)), width
        ),
        _section("most used keys", KEYS, width),
        _section("flags", FLAGS, width),
        "examples:\n" + "\n".join(f"  {program} {line}" for line in EXAMPLES),
        "`protoformer list` shows valid combinations; `protoformer plan` estimates the cost of a run.",
    ]
    return "\n\n".join(parts)


def main(sections: Sequence[str] = ()) -> None:
    """Print the named sections; by default models, tasks, hardware, and valid combinations (`pairs`)."""
    # not at the top: rich is slow to import, and the overview and `train --help` import this file
    from protoformer.reporting.tables import make_console, print_table

    folders = search_path()
    console = make_console()
    for name in sections or SECTIONS:
        if name == "tasks":
            for title, columns, rows in _tasks(folders):
                print_table(columns, rows, title, console=console, whole=("task",))
                console.print()
            continue
        title, section = {
            "models": ("models", _models),
            "hardware": ("hardware", _hardware),
            "pairs": ("valid combinations", _matrix),
        }[name]
        columns, rows = section(folders)
        print_table(columns, rows, title, console=console)
        console.print()


def size(node: dict[str, object]) -> str:
    """A model's sizes as text, as far as its yaml states them."""
    if node.get("depth") is not None:
        return f"set by model.depth (here {node['depth']} layers)"
    words = (("n_layers", "{} layers"), ("d_model", "d_model {}"), ("n_heads", "{} heads"), ("d_ff", "d_ff {}"))
    return ", ".join(text.format(node[key]) for key, text in words if key in node)


def _shown(folders: Sequence[Path]) -> list[str]:
    first = ["model", "task", "hardware", "source", "tracking", "experiment", "debug"]
    return [name for name in first if name in groups(folders)]


def _section(title: str, rows: Iterable[tuple[str, str]], width: int) -> str:
    lines = [f"{title}:"]
    for name, text in rows:
        indent = " " * 16 if len(name) < 13 else " " * 6
        head = f"  {name:<14}" if len(name) < 13 else f"  {name}\n{indent}"
        lines.append(
            head + textwrap.fill(text, width - len(indent), break_on_hyphens=False).replace("\n", f"\n{indent}")
        )
    return "\n".join(lines)


def _models(folders: tuple[Path, ...]) -> Rows:
    rows = []
    for name in options("model", folders):
        node = model(name, folders)
        published = (node.get("hf") or {}).get("repo") or "none: trained from scratch"
        rows.append((name, family(name, folders), size(node), published))
    return ("model", "family", "size", "published weights"), rows


def _tasks(folders: tuple[Path, ...]) -> list[tuple[str, Sequence[str], Sequence[Sequence[str]]]]:
    """A table for each kind of task: title, columns, rows. The title says it where none of them trains."""
    kinds: dict[str, list[Sequence[str]]] = {}
    for name in options("task", folders):
        node = option("task", name, folders)
        where = node.get("rows", {})
        data_set = " + ".join(
            "your own (source.root)"
            if part.get("dataset") == OWN_DATA
            else " ".join(str(part[key]) for key in ("dataset", "subset") if part.get(key))
            for part in where.get("parts") or [where]
        )
        use = "" if node.get("splits", {}).get("train") else "test only"
        row = (name, data_set, ", ".join(_metrics(node.get("module", {}))), use)
        kinds.setdefault(node["kind"], []).append(row)
    tables: list[tuple[str, Sequence[str], Sequence[Sequence[str]]]] = []
    for kind, rows in kinds.items():
        uses = {row[-1] for row in rows}
        last = len(uses) > 1  # a column of its own
        title = f"tasks: {kind} ({len(rows)}{', test only' if uses == {'test only'} else ''})"
        columns = ("task", "data set", "metrics", *([""] if last else []))
        tables.append((title, columns, rows if last else [row[:-1] for row in rows]))
    return tables


def _metrics(module: dict[str, Any]) -> Sequence[str]:
    """The main metrics named in a task's yaml, or the defaults of its module."""
    if not module:
        return ()
    if "measure" in module:
        return (module["measure"],)
    taken, own = signature(module["_target_"]).parameters, members(module["_target_"])
    return module.get("metrics") or (taken["metrics"].default if "metrics" in taken else own.get("metrics", ()))


def _hardware(folders: tuple[Path, ...]) -> Rows:
    rows = []
    for name in options("hardware", folders):
        node = {key: value for key, value in option("hardware", name, folders).items() if key != "overrides"}
        rows.append(
            (name, ", ".join(f"{key} {value}" for key, value in node.items()), heading("hardware", name, folders))
        )
    return ("hardware", "sets", ""), rows


def _matrix(folders: tuple[Path, ...]) -> Rows:
    """A row for each kind of task, a column for each family; a family with two templates has a column for each."""
    kinds: dict[tuple[str, str], list[str]] = {}
    for name in options("task", folders):
        node = option("task", name, folders)
        kinds.setdefault((node["kind"], node["data"]["_target_"]), []).append(name)
    families: dict[tuple[str, str], list[str]] = {}
    for name in options("model", folders):
        families.setdefault((family(name, folders), model(name, folders)["template"]["_target_"]), []).append(name)
    several = Counter(name for name, _ in families)
    rows = [
        (
            f"{kind} ({len(tasks)})",
            *("yes" if any(can(names[0], task, folders) for task in tasks) else "-" for names in families.values()),
        )
        for (kind, _), tasks in kinds.items()
    ]
    heads = (
        (name if several[name] == 1 else min(names, key=len)).replace("_", "\n")
        for (name, _), names in families.items()
    )
    return ("kind (tasks)", *heads), rows


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("sections", nargs="*", metavar="SECTION", help="models, tasks, hardware, pairs (default: all)")
    parser.add_argument(
        "--config-dir", metavar="DIR", help="a folder with further options; with its own train.yaml it replaces conf/"
    )


def run(options: argparse.Namespace) -> None:
    for name in options.sections:
        if name not in SECTIONS:
            raise ConfigurationError(f"{name}: no such section; {advice(name, SECTIONS)}")
    main(options.sections)
