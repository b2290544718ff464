"""Samplers and pruners of Optuna by their names in a sweep's file, with their own arguments as options."""

import importlib
import inspect
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from protoformer.config.names.suggest import advice
from protoformer.errors import ConfigurationError

if TYPE_CHECKING:
    from optuna.pruners import BasePruner
    from optuna.samplers import BaseSampler

METHODS = {  # name -> class of optuna.samplers, and packages that it needs besides
    "grid": ("RandomSampler", ()),  # all points are queued: nothing is drawn
    "random": ("RandomSampler", ()),
    "tpe": ("TPESampler", ()),
    "cmaes": ("CmaEsSampler", ("cmaes",)),
    "gp": ("GPSampler", ("scipy", "torch")),
    "qmc": ("QMCSampler", ("scipy",)),
}
PRUNERS = {
    "none": ("NopPruner", ()),
    "median": ("MedianPruner", ()),
    "hyperband": ("HyperbandPruner", ()),
    "successive_halving": ("SuccessiveHalvingPruner", ()),
}
OWN = ("seed", "constant_liar")  # arguments that the sweep decides


def named_options(
    node: object, known: Mapping[str, tuple[str, tuple[str, ...]]], where: str
) -> tuple[str, dict[str, Any]]:
    """`tpe`, or `{tpe: {n_startup_trials: 5}}`: the name and its options. The name is checked here, options by `build_*`."""
    if isinstance(node, Mapping) and len(node) == 1:
        ((name, options),) = node.items()
    else:
        name, options = node, None
    name = "none" if name is None else str(name).lower()
    if name not in known:
        raise ConfigurationError(f"{where}={name}: no such {where.rpartition(': ')[2]}; {advice(name, known)}")
    if options is not None and not isinstance(options, Mapping):
        raise ConfigurationError(f"{where}: {name}: options are a mapping, as in {{{name}: {{key: value}}}}")
    for package in known[name][1]:
        if importlib.util.find_spec(package) is None:
            raise ConfigurationError(f"{where}={name} needs the package {package}: pip install {package}")
    return name, {str(key): value for key, value in (options or {}).items()}


def build_sampler(name: str, options: Mapping[str, Any], seed: int, number: int, where: str) -> "BaseSampler":
    """The sampler of one trial: its draws depend on the seed and the trial's number, not on who draws."""
    import numpy as np
    import optuna

    kind = getattr(optuna.samplers, METHODS[name][0])
    own: dict[str, Any] = {"seed": int(np.random.SeedSequence((seed, number)).generate_state(1)[0])}
    if name == "qmc":
        own = {"seed": seed}  # one sequence for all
    if "constant_liar" in inspect.signature(kind).parameters:
        own["constant_liar"] = True  # trials that run beside this one count
    return _built(kind, options, own, f"{where}: method: {name}")


def build_pruner(name: str, options: Mapping[str, Any], where: str) -> "BasePruner":
    import optuna

    return _built(getattr(optuna.pruners, PRUNERS[name][0]), options, {}, f"{where}: pruner: {name}")


def _built(kind: Any, options: Mapping[str, Any], own: Mapping[str, Any], where: str) -> Any:
    known = [name for name in inspect.signature(kind).parameters if name not in OWN]
    for name in options:
        if name not in known:
            raise ConfigurationError(f"{where}: {name}: no such option; {advice(name, known)}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # experimental arguments
        try:
            return kind(**options, **own)
        except (TypeError, ValueError) as error:
            raise ConfigurationError(f"{where}: {' '.join(str(error).split())}") from None
