"""From a node of the config with a `_target_` to the object that it describes."""

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from hydra import utils as hydra_utils
from hydra.errors import InstantiationException

from protoformer.config.schema import SUPPLIED
from protoformer.errors import ConfigurationError, UserError


def instantiate(config: Mapping[str, object], path: str, **supplied: object) -> Any:
    """What the node at a dotted path builds; `supplied` are those arguments that the program gives (`schema.SUPPLIED`).

    Raises ConfigurationError, naming the path, where the target refuses its arguments by a ValueError.
    """
    node: Any = config
    for name in path.split("."):
        node = node[name]
    return instantiate_node(node, path, **supplied)


def instantiate_node(node: Mapping[str, object], path: str, **supplied: object) -> Any:
    """As `instantiate`, of a node that is not, or not as it stands, in a config."""
    if undeclared := supplied.keys() - SUPPLIED.get(path, {}).keys():
        raise RuntimeError(f"{path}: {', '.join(sorted(undeclared))} not declared in schema.SUPPLIED")
    literal = {name: deepcopy(value) for name, value in node.items() if _reads_as_interpolation(value)}
    node = {name: value for name, value in node.items() if name not in literal}
    try:
        # not given to Hydra, which copies what it is given
        return hydra_utils.instantiate(node, _partial_=True, _convert_="all")(**literal, **supplied)
    except InstantiationException as error:
        if isinstance(error.__cause__, UserError):
            raise error.__cause__ from None
        if isinstance(error.__cause__, ValueError):
            raise ConfigurationError(f"{path}: {error.__cause__}") from error.__cause__
        raise
    except ValueError as error:
        raise ConfigurationError(f"{path}: {error}") from error


def _reads_as_interpolation(value: object) -> bool:
    """Whether OmegaConf would take a text in it for an interpolation or a missing value. The config is resolved, so that these
    are literal: labels that were found in the data, say."""
    if isinstance(value, Mapping):
        return "_target_" not in value and any(map(_reads_as_interpolation, value.values()))
    if isinstance(value, list | tuple):
        return any(map(_reads_as_interpolation, value))
    return isinstance(value, str) and ("${" in value or value == "???")
