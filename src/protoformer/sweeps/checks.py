"""What is wrong with a sweep is said before its first trial: keys and values, and an objective that no trial would log."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from protoformer.config import compose
from protoformer.config.annotations.signatures import signature
from protoformer.config.names.suggest import advice
from protoformer.distributed import signals
from protoformer.errors import ConfigurationError
from protoformer.sweeps import methods
from protoformer.sweeps.space import covering_points, overrides_of
from protoformer.sweeps.specification import Sweep

SPLITS = ("val/", "test/")


def checked(sweep: Sweep) -> list[dict[str, Any]]:
    """Compose few points in which each value of each key occurs, and give their configs.

    Raises ConfigurationError, which names the sweep's file.
    """
    methods.build_sampler(sweep.method, sweep.method_options, sweep.sampler_seed, 0, sweep.file)
    methods.build_pruner(sweep.pruner, sweep.pruner_options, sweep.file)
    configs = []
    for point in covering_points(sweep.space):
        signals.check()
        words = overrides_of(point)
        try:
            config = compose.compose(sweep.words(words))
        except ConfigurationError as error:
            raise ConfigurationError(f"{sweep.file}: {_with_key(str(error), words)}") from None
        _check_objective(sweep, config)
        configs.append(config)
    return configs


def _with_key(message: str, words: Sequence[str]) -> str:
    """The message, with the point where it names none of its keys."""
    return message if any(word.partition("=")[0] in message for word in words) else f"{message} ({' '.join(words)})"


def _check_objective(sweep: Sweep, config: Mapping[str, Any]) -> None:
    task, splits = config["choices"]["task"], config["task"]["splits"]
    if not sweep.objective.startswith(SPLITS):
        likely = ["val/score", "val/loss", "val/accuracy", "test/score"]
        raise ConfigurationError(
            f"{sweep.file}: objective={sweep.objective} is no metric of a dev or test split; {advice(sweep.objective, likely)}"
        )
    has_dev = bool(splits["validation"]) or "held_out" in signature(config["task"]["data"]["_target_"]).parameters
    validates = bool(splits["train"]) and has_dev
    if sweep.objective.startswith("val/") and not has_dev:
        raise ConfigurationError(
            f"{sweep.file}: objective={sweep.objective}: task={task} has no dev split; choose a metric of its test split, as "
            "in objective: test/score"
        )
    if sweep.pruner != "none" and not (validates and sweep.objective.startswith("val/")):
        why = (
            f"task={task} never validates while it trains"
            if not validates
            else f"{sweep.objective} is logged at the end"
        )
        raise ConfigurationError(f"{sweep.file}: pruner={sweep.pruner}: {why}; choose pruner: none")


def folder_of(sweep: Sweep, config: Mapping[str, Any]) -> Path:
    """The sweep's folder below those of the runs."""
    return Path(config["paths"]["outputs"]) / "sweeps" / sweep.name
