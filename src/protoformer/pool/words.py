"""Overrides of a trial's process: those of its command, without the pool that it is a trial of."""

from collections.abc import Mapping, Sequence
from typing import Any

KEY = "hardware.pool"


def words_of_trial(words: Sequence[str], config: Mapping[str, Any]) -> list[str]:
    """The overrides without `hardware.pool`; where a file of options states it, null is put against it."""
    others = [word for word in words if word.lstrip("+").partition("=")[0] != KEY]
    is_stated = config["hardware"]["pool"] is not None and len(others) == len(words)
    return [*others, f"{KEY}=null"] if is_stated else others
