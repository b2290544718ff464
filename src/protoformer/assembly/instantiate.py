"""From a node of the config with a `_target_` to the object that it describes."""

from collections.abc import Mapping
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
    try:
        # not given to Hydra, which copies what it is given
        return hydra_utils.instantiate(node, _partial_=True, _convert_="all")(**supplied)
    except InstantiationException as error:
        if isinstance(error.__cause__, UserError):
            raise error.__cause__ from None
        if isinstance(error.__cause__, ValueError):
            raise ConfigurationError(f"{path}: {error.__cause__}") from error.__cause__
        raise
    except ValueError as error:
        raise ConfigurationError(f"{path}: {error}") from error
