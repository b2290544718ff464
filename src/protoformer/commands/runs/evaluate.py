"""`protoformer evaluate`: scores of a trained model on another task, another split or other data; perplexity on files."""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

from protoformer.errors import ConfigurationError

HELP = "score a trained model on another task, split or data; a language model on files (task=lm/files)"
FILES_TASK = "lm/files"
FILES_KEYS = ("task", "source", "source.files", "task.stride", "task.max_len", "hardware.micro_batch")
OUTPUT_KEYS = "tracking"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="a run folder, a Hugging Face folder, or a hub id")
    parser.add_argument(
        "overrides",
        nargs="+",
        metavar="KEY=VALUE",
        help="task=TASK and keys of train, such as source=local source.root=DIR or task.splits.validation=test; or "
        "task=lm/files 'source.files=[heldout.txt]' [task.stride=N] [task.max_len=N] "
        "[hardware.micro_batch=N]",
    )


def run(options: argparse.Namespace) -> None:
    given = _keys(options.overrides)
    if given.get("task") == FILES_TASK:
        _print_perplexity(options.run, given)
        return
    if "task" not in given:
        raise ConfigurationError(f"nothing to score on: give task=TASK (protoformer list tasks), or task={FILES_TASK}")
    # not at the top: slow to import
    from protoformer.commands import train

    model = given.get("model") or _model_of(options.run)
    words = [f"model={model}", f"init_from={_quoted(options.run)}", "task.splits.train=null"]
    words += [] if OUTPUT_KEYS in given else ["tracking=none"]
    code = train.main(
        [*words, *(word for word in options.overrides if not word.startswith("model="))], "protoformer train"
    )
    if code:
        sys.exit(code)


def _keys(overrides: list[str]) -> dict[str, str]:
    keys = {}
    for word in overrides:
        name, equals, value = word.partition("=")
        if not equals:
            raise ConfigurationError(f"{word}: give KEY=VALUE, such as task=glue/mrpc")
        keys[name.lstrip("+")] = value
    return keys


def _quoted(source: str) -> str:
    """A value that the grammar of overrides reads as it stands."""
    return "'" + source.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _model_of(source: str) -> str:
    """The option of the group `model` that a run was made with; of a folder that of its family."""
    from protoformer import hub
    from protoformer.models import weights
    from protoformer.models.hf.options import MODEL_OPTIONS
    from protoformer.runs.reader import read_config

    folder = Path(source).expanduser()
    if (folder / "config.yaml").is_file():
        return str(read_config(folder)["choices"]["model"])
    model_type = str(weights.read_config(hub.resolve_folder(source)).get("model_type"))
    if model_type not in MODEL_OPTIONS:
        raise ConfigurationError(f"{source}: model_type {model_type!r} in config.json; name its model: model=NAME")
    return MODEL_OPTIONS[model_type]


def _print_perplexity(source: str, given: Mapping[str, str]) -> None:
    if unknown := [name for name in given if name not in FILES_KEYS]:
        raise ConfigurationError(f"{unknown[0]}: task={FILES_TASK} takes {', '.join(FILES_KEYS)}")
    files = given.get("source.files", "").strip()
    names = files.removeprefix("[").removesuffix("]") if files.startswith("[") else files
    patterns = [name.strip().strip("'\"") for name in names.split(",") if name.strip()]
    if not patterns:
        raise ConfigurationError("nothing to score: give 'source.files=[heldout.txt]'")
    from protoformer.inference import evaluate

    window, rows = _number(given, "task.max_len", "tokens"), _number(given, "hardware.micro_batch", "windows at once")
    evaluate.print_perplexity(source, patterns, _number(given, "task.stride", "tokens"), window, rows)


def _number(given: Mapping[str, str], name: str, unit: str) -> int | None:
    value = given.get(name)
    if value is None:
        return None
    if not value.isdigit() or int(value) < 1:
        raise ConfigurationError(f"{name}={value}: expected a whole number of {unit}, at least 1")
    return int(value)
