"""Optional extras of a finished run: a card, an image, a table for the tracker. Their failure costs no run."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from protoformer.errors import InterruptedRunError

log = logging.getLogger(__name__)


@contextmanager
def optional(what: str, *raised: type[Exception]) -> Iterator[None]:
    """An error inside the block is logged as `what: left out (...)` and swallowed.

    InterruptedRunError and the types in `raised` pass through.
    """
    try:
        yield
    except (InterruptedRunError, *raised):
        raise
    except Exception as error:
        message = " ".join(str(error).split())  # in one line
        log.warning("%s: left out (%s%s)", what, type(error).__name__, f": {message}" if message else "")
