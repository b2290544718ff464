"""Ranks that are forked from the process that starts them, whose imports are done, in place of fresh interpreters.

`test_launcher` and `test_launchers` start ranks as users do.
"""

import contextlib
import gc
from collections.abc import Iterator
from typing import Any
from unittest import mock

from protoformer.distributed import parent

LaunchConfig = parent.LaunchConfig


@contextlib.contextmanager
def forked_ranks() -> Iterator[None]:
    """Within the block."""
    with mock.patch.object(parent, "LaunchConfig", _forking):
        yield


def _forking(**values: Any) -> Any:
    gc.collect()  # here and not in a rank: what an earlier launch left behind owns threads that a forked process lacks
    gc.freeze()  # so that collections in a rank copy no page that it shares with this process
    return LaunchConfig(**{**values, "start_method": "fork"})


if __name__ == "forked_ranks":  # the server of `preloaded` was told to import it
    parent.LaunchConfig = _forking  # type: ignore[assignment, misc]
