"""Callbacks of a user's own (`trainer.callbacks`): Lightning callbacks that the config names by `_target_`."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from lightning.pytorch.callbacks import Callback

from protoformer.assembly.instantiate import instantiate_node
from protoformer.errors import ConfigurationError
from protoformer.training.checkpoints import check_safe_types


def build_callbacks(config: Mapping[str, Any]) -> list[Callback]:
    """The callbacks of `trainer.callbacks`, in their order.

    Raises ConfigurationError for what is no Lightning callback, for two whose states would have one name in a checkpoint, and
    for a state that a checkpoint cannot hold.
    """
    callbacks: list[Callback] = []
    for i, node in enumerate(config["trainer"]["callbacks"]):
        key = f"trainer.callbacks[{i}]"
        callback = instantiate_node(node, key)
        if not isinstance(callback, Callback):
            raise ConfigurationError(
                f"{key}: {node['_target_']} is no callback; a subclass of lightning.pytorch.callbacks.Callback is needed"
            )
        try:
            check_safe_types(callback.state_dict(), "its state")
        except TypeError as error:
            raise ConfigurationError(
                f"{key}: {error}; tensors, numbers, text, lists and mappings can be saved"
            ) from None
        callbacks.append(callback)
    counts = Counter(callback.state_key for callback in callbacks if callback.state_dict())
    if double := [name for name, count in counts.items() if count > 1]:
        raise ConfigurationError(
            f"trainer.callbacks: two with the state_key {double[0]}: give each a state_key of its own"
        )
    return callbacks
