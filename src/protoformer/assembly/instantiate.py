"""Hydra's `instantiate`, whose errors are one line."""

import logging
from typing import Any

from hydra import utils as hydra_utils
from hydra.errors import InstantiationException

from protoformer.errors import UserError

log = logging.getLogger(__name__)


def instantiate(node: Any, **more: Any) -> Any:
    """Hydra's, but a user error of what is built stays one."""
    try:
        return hydra_utils.instantiate(node, **more)
    except InstantiationException as error:
        if isinstance(error.__cause__, UserError):
            raise error.__cause__ from None
        raise
