"""Probes of a training run (`task.probes`): evaluation tasks, each composed as a config of its own."""

import shlex
from collections import Counter
from collections.abc import Mapping
from typing import Any

from protoformer.config.compose import compose
from protoformer.errors import ConfigurationError

KEY = "task.probes"
OF_THE_RUN = ("model", "hardware", "paths", "seed")  # nodes and keys that a probe has from the run


def probe_configs(config: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The config of each probe by its name; {} where the run has none.

    An entry is a task, and behind it overrides as on a command line: `incontext/copa task.shots=4`. Data come from the run's
    source, unless an override names another one or the run reads files of its own. A probe's name is its task, with the
    overrides where several probes have the same task.

    Raises ConfigurationError, naming the entry, where the command line of its task would.
    """
    entries = [_words(entry) for entry in config["task"].get("probes") or ()]
    if entries and not config["task"]["splits"].get("train"):
        raise ConfigurationError(
            f"{KEY}: task={config['choices'].get('task')} trains nothing, so there is nothing to follow"
        )
    times = Counter(words[0] for words in entries if words)
    configs: dict[str, dict[str, Any]] = {}
    for words in entries:
        if not words:
            raise ConfigurationError(f"{KEY}: an entry is empty; each is a task, such as lm/lambada")
        task, overrides = words[0], words[1:]
        name = task if times[task] == 1 else "_".join([task, *(text.removeprefix("task.") for text in overrides)])
        if name in configs:
            raise ConfigurationError(f"{KEY}: {' '.join(words)} is named twice")
        configs[name] = _probe_config(config, task, overrides)
    return configs


def _words(entry: str) -> list[str]:
    try:
        return shlex.split(entry)
    except ValueError as error:  # a quotation mark that stands alone
        raise ConfigurationError(f"{KEY}: {entry}: {str(error).lower()}") from None


def _probe_config(config: Mapping[str, Any], task: str, overrides: list[str]) -> dict[str, Any]:
    try:
        composed = compose([f"model={config['choices']['model']}", f"task={task}", *overrides])
    except ConfigurationError as error:
        raise ConfigurationError(f"{KEY}: {' '.join([task, *overrides])}: {error}") from None
    names_source = any(text.partition("=")[0].partition(".")[0] == "source" for text in overrides)
    if not names_source and "files" not in config["source"]:
        composed["source"] = config["source"]
    return composed | {key: config[key] for key in OF_THE_RUN}
