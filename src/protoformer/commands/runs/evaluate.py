"""`protoformer evaluate`: scores of a trained model on another task, another split or other data; perplexity on files."""

import argparse
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from protoformer.errors import ConfigurationError, RunFolderError

HELP = "score a trained model on another task, split or data; a language model on files (task=lm/files)"
FILES_TASK = "lm/files"
FILES_KEYS = (
    "task",
    "source",
    "source.files",
    "source.encoding",
    "task.stride",
    "task.max_len",
    "hardware.micro_batch",
)
OUTPUT_KEYS = "tracking"
PATH = re.compile(r"[./~][\w./~-]*[\w]")  # a value that needs no quotes
KEPT_NODES = ("task.rows.", "task.data.", "task.module.", "task.splits.validation", "task.splits.test")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="a run folder, a Hugging Face folder, or a hub id")
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="KEY=VALUE",
        help="task=TASK (default: that of the run, on its data) and keys of train, such as source=local source.root=DIR "
        "or task.splits.validation=test; or "
        "task=lm/files 'source.files=[heldout.txt]' [task.stride=N] [task.max_len=N] "
        "[hardware.micro_batch=N]",
    )


def run(options: argparse.Namespace) -> None:
    given = keys_of(options.overrides)
    if given.get("task") == FILES_TASK:
        _print_perplexity(options.run, given)
        return
    # not at the top: slow to import
    from protoformer.commands import train

    code = train.main(words_of_evaluation(options.run, options.overrides), "protoformer train")
    if code:
        sys.exit(code)


def words_of_evaluation(source: str, overrides: list[str], *, trains: bool = False) -> list[str]:
    """The command line of an evaluation of a run or of weights, on the run's own task and data where nothing else is typed.

    With `trains` the training split stays, whose rows then serve for statistics. Raises ConfigurationError for weights without
    a task.
    """
    given, earlier = keys_of(overrides), config_of(source)
    if "task" not in given and earlier is None:
        _check_exists(source)
        what = "not a run folder" if Path(source).expanduser().exists() else "no run of that name is here"
        raise ConfigurationError(
            f"{source}: {what}; for weights give task=TASK (protoformer list tasks), or task={FILES_TASK}"
        )
    model = given.get("model") or (_model_of(source) if earlier is None else str(earlier["choices"]["model"]))
    words = [f"model={model}", f"init_from={literal(source)}"]
    words += [] if trains else ["task.splits.train=null"]
    words += [] if OUTPUT_KEYS in given else ["tracking=none"]
    words += [] if earlier is None else words_of_run(source, earlier, given)
    return [*words, *(word for word in overrides if not word.startswith("model="))]


def _check_exists(source: str) -> None:
    """Raises ConfigurationError for a path where nothing is."""
    from protoformer import hub  # not at the top: slow to import

    if hub.is_path(source) and not Path(source).expanduser().exists():
        raise ConfigurationError(f"{source}: no such folder")


def words_of_run(source: str, config: Mapping[str, Any], given: Mapping[str, str]) -> list[str]:
    """What was typed for the run and holds for its evaluation: its longest text; on its own task also columns, and its data.

    Parts of the training split (folds, rows held out) are not among it.
    """
    choices = config["choices"]
    kept = {key for key in choices.get("set", ()) if key == "task.max_len"}
    words = []
    if given.get("task", choices["task"]) == choices["task"]:
        words += [] if "task" in given else [f"task={choices['task']}"]
        kept |= {key for key in choices.get("set", ()) if key.startswith(KEPT_NODES)}
        if not any(key.partition(".")[0] == "source" for key in given):
            words.append(f"source={choices['source']}")
            kept |= {key for key in choices.get("set", ()) if key.startswith("source.")}
    values = {key: _value(config, key) for key in sorted(kept) if key not in given}
    if "task.max_len" in values:
        print(
            f"{source}: texts of at most {values['task.max_len']} tokens, as in training (task.max_len)",
            file=sys.stderr,
        )
    return [*words, *(f"{key}={literal(value)}" for key, value in values.items())]


def _value(config: Mapping[str, Any], key: str) -> Any:
    value: Any = config
    for name in key.split("."):
        value = value[name]
    return value


def keys_of(overrides: list[str]) -> dict[str, str]:
    keys = {}
    for word in overrides:
        name, equals, value = word.partition("=")
        if not equals:
            raise ConfigurationError(f"{word}: give KEY=VALUE, such as task=glue/mrpc")
        keys[name.lstrip("+")] = value
    return keys


def literal(value: Any) -> str:
    """A value that the grammar of overrides reads as it stands."""
    if isinstance(value, str) and PATH.fullmatch(value):
        return value
    if isinstance(value, str):
        return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{literal(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(literal, value)) + "]"
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def config_of(source: str) -> dict[str, Any] | None:
    """The config of a run; None for other weights."""
    from protoformer.runs.reader import read_config  # not at the top: slow to import

    folder = Path(source).expanduser()
    if not (folder / "config.yaml").is_file():
        return None
    config = read_config(folder)
    if not isinstance(config.get("choices"), dict):
        raise RunFolderError(f"{folder / 'config.yaml'} is not the whole config of a run: it lacks choices")
    return config


def _model_of(source: str) -> str:
    """The option of the group `model` for a folder of weights: that of its family."""
    from protoformer import hub
    from protoformer.models import weights
    from protoformer.models.hf.options import MODEL_OPTIONS

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

    window, origin = _number(given, "task.max_len", "tokens"), "task.max_len"
    earlier = config_of(source)
    if window is None:
        window, origin = (None, "the model's positions") if earlier is None else (_max_len(earlier), "as in training")
    rows, stride = _number(given, "hardware.micro_batch", "windows at once"), _number(given, "task.stride", "tokens")
    evaluate.print_perplexity(
        source,
        patterns,
        stride=stride,
        window=window,
        rows=rows,
        encoding=given.get("source.encoding"),
        origin=origin,
    )


def _number(given: Mapping[str, str], name: str, unit: str) -> int | None:
    value = given.get(name)
    if value is None:
        return None
    if not value.isdigit() or int(value) < 1:
        raise ConfigurationError(f"{name}={value}: expected a whole number of {unit}, at least 1")
    return int(value)


def _max_len(config: Mapping[str, Any]) -> int | None:
    """The longest text, in tokens, that a run was trained on."""
    positions = config["model"].get("max_seq_len")
    lengths = [length for length in (config["task"]["max_len"], positions) if length is not None]
    return min(lengths, default=None)
