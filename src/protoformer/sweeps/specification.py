"""A sweep's file: what is fixed, what varies, how values are drawn and what is compared; every key is checked."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import yaml

from protoformer.config import compose, schema
from protoformer.config.names.suggest import advice
from protoformer.config.overrides import parsed
from protoformer.errors import ConfigurationError
from protoformer.sweeps import methods
from protoformer.sweeps.space import Choices, Point, Space, choices, finite, grid, override_text, parse_space

KEYS = (
    "name", "method", "overrides", "space", "objective", "direction", "trials", "pruner", "workers", "retries", "sampler_seed"
)  # fmt: skip
OF_THE_WORKER = ("tracking", "paths", *(key for key in schema.IGNORED_IN_RUN_ID if "." in key), "reuse")
LONGEST_NAME = 80


@dataclass(frozen=True)
class Sweep:
    """A sweep as its file and its command line describe it."""

    file: str
    name: str
    overrides: dict[str, str]  # what every trial has: key -> text behind the equals sign
    space: Space
    method: str = "grid"
    method_options: dict[str, Any] = field(default_factory=dict)
    objective: str = "val/score"
    direction: Literal["maximize", "minimize"] = "maximize"
    trials: int = 0
    pruner: str = "none"
    pruner_options: dict[str, Any] = field(default_factory=dict)
    workers: int = 1
    retries: int = 3  # later commands that try a failed trial again
    sampler_seed: int = 0

    @property
    def identity(self) -> dict[str, object]:
        """What a journal belongs to: trials of another one cannot be compared, or drawn from the same space."""
        return {
            "method": {self.method: self.method_options},
            "overrides": {key: text for key, text in self.overrides.items() if not _is_of_the_worker(key)},
            "space": {key: each.plain() for key, each in self.space.items()},
            "objective": self.objective,
            "direction": self.direction,
            "sampler_seed": self.sampler_seed,
        }

    @property
    def points(self) -> list[Point]:
        """Of a grid all points; of another method as many empty ones as there are trials."""
        return grid(self.space, self.file) if self.method == "grid" else [{} for _ in range(self.trials)]

    def words(self, point_words: Sequence[str]) -> list[str]:
        """The overrides of a trial."""
        return [*(f"{key}={text}" for key, text in self.overrides.items()), *point_words]


def _is_of_the_worker(key: str) -> bool:
    return any(key == name or key.startswith(f"{name}.") for name in OF_THE_WORKER)


def read_sweep(path: Path, words: Sequence[str], folders: Sequence[Path]) -> Sweep:
    """The sweep of a file and the overrides of a command line, which come before what the file says of the same key.

    A key with several values (`seed=1,2,3`) becomes part of the space. A file that names an experiment has the space that the
    experiment's `hydra.sweeper.params` states, unless it states one of these keys itself.
    """
    node = _loaded(path)
    where = str(path)
    for key in node:
        if key not in KEYS:
            raise ConfigurationError(f"{where}: {key}: no such key of a sweep; {advice(str(key), KEYS)}")
    sweep = Sweep(where, str(node.get("name") or path.stem), _fixed(node.get("overrides"), where), {})
    space = parse_space(node.get("space") or {}, where)
    if twice := [key for key in space if key in sweep.overrides]:
        raise ConfigurationError(f"{where}: {twice[0]} stands under overrides and under space")
    given = {}
    for text, override in parsed(words, folders):
        key = text.lstrip("+").partition("=")[0]
        space.pop(key, None)
        sweep.overrides.pop(key, None)
        given[key] = text.partition("=")[2]
        if override.is_sweep_override():
            space[key] = choices([str(value) for value in override.sweep_string_iterator()], text)
        else:
            sweep.overrides[key] = given[key]
    space |= {key: each for key, each in _of_experiment(sweep, space, folders).items() if key not in given}
    if not space:
        raise ConfigurationError(
            f"{where}: space is empty; name a key and its values, as in seed: {{values: [1, 2, 3]}}"
        )
    sweep = _with_options(replace(sweep, space=space), node)
    return replace(sweep, name=_name(sweep.name, given))


def _loaded(path: Path) -> dict[str, Any]:
    try:
        node = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        beside = sorted(file.name for file in path.parent.glob("*.yaml"))
        raise ConfigurationError(f"{path}: no such sweep; {advice(path.name, beside)}") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigurationError(f"{path}: not valid yaml ({' '.join(str(error).split())})") from None
    if not isinstance(node, dict):
        raise ConfigurationError(f"{path}: not a sweep: no keys; it has {', '.join(KEYS)}")
    if "program" in node or "parameters" in node:
        raise ConfigurationError(f"{path} is a sweep of W&B; run it by `wandb sweep {path}`")
    if "hydra" in node or "defaults" in node:
        raise ConfigurationError(
            f"{path} is an experiment; name it in a sweep's file, as overrides: {{experiment: {path.stem}}}, or run "
            f"`python train.py -m --config-dir {path.parent.parent} experiment={path.stem}`"
        )
    return node


def _fixed(node: object, where: str) -> dict[str, str]:
    if node is None:
        return {}
    if not isinstance(node, Mapping):
        raise ConfigurationError(f"{where}: overrides: a mapping is needed, as in {{model: bert, task: glue/rte}}")
    return {str(key): override_text(value) for key, value in node.items()}


def _of_experiment(sweep: Sweep, space: Space, folders: Sequence[Path]) -> Space:
    """What the chosen experiment's own sweep varies besides."""
    if "experiment" not in sweep.overrides:
        return {}
    first = [f"{key}={each.probes[0]}" for key, each in space.items()]
    params = compose.composed_by_hydra(sweep.words(first), folders).hydra.sweeper.params or {}
    words = [f"{key}={value}" for key, value in params.items() if key not in {**space, **sweep.overrides}]
    return {
        override.key_or_group: choices([str(value) for value in override.sweep_string_iterator()], text)
        for text, override in parsed(words, folders)
    }


def _with_options(sweep: Sweep, node: Mapping[str, Any]) -> Sweep:
    """The sweep with the keys of its file that are neither fixed nor varied."""
    where = sweep.file
    method, method_options = methods.named_options(node.get("method", "grid"), methods.METHODS, f"{where}: method")
    pruner, pruner_options = methods.named_options(node.get("pruner", "none"), methods.PRUNERS, f"{where}: pruner")
    direction = node.get("direction", "maximize")
    if direction not in ("maximize", "minimize"):
        raise ConfigurationError(f"{where}: direction={direction}; choose maximize or minimize")
    sweep = replace(
        sweep,
        method=method,
        method_options=method_options,
        pruner=pruner,
        pruner_options=pruner_options,
        objective=str(node.get("objective", "val/score")),
        direction=direction,
        workers=_count(node.get("workers", 1), f"{where}: workers", 1),
        retries=_count(node.get("retries", 3), f"{where}: retries", 0),
        sampler_seed=_count(node.get("sampler_seed", 0), f"{where}: sampler_seed", 0),
    )
    return with_trials(sweep, node.get("trials"))


def with_trials(sweep: Sweep, trials: object) -> Sweep:
    """The sweep with a number of trials, which a grid has of its own."""
    if sweep.method == "grid":
        space: Space = {**finite(sweep.space, sweep.file)}
        size = 1
        for each in space.values():
            size *= len(each.texts) if isinstance(each, Choices) else 1
        if trials not in (None, size):
            raise ConfigurationError(f"{sweep.file}: trials={trials}, but the grid has {size} points; leave trials out")
        return replace(sweep, space=space, trials=size)
    if trials is None:
        raise ConfigurationError(
            f"{sweep.file}: trials is not set; method={sweep.method} needs a number, as in trials: 20"
        )
    return replace(sweep, trials=_count(trials, f"{sweep.file}: trials", 1))


def _count(value: object, where: str, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConfigurationError(f"{where}={value} is not a whole number of at least {least}")
    return value


def _name(name: str, given: Mapping[str, str]) -> str:
    """A name that says what the command line changed: `search-task-glue-rte`."""
    parts = [f"{key.rpartition('.')[2]}-{text}" for key, text in given.items() if not _is_of_the_worker(key)]
    whole = re.sub(r"[^\w.]+", "-", "-".join([name, *parts])).strip("-")
    if len(whole) <= LONGEST_NAME:
        return whole
    return f"{whole[:LONGEST_NAME].strip('-')}-{hashlib.sha256(' '.join(parts).encode()).hexdigest()[:6]}"
